"""Items that try to change a statement, against real tables in both databases.

Each row that is there is a text that breaks something, or the twin of another.
Half of them are asked for, and exactly those are gone.
"""

import json
import re
from collections.abc import Iterator

import pytest

from tests.integration.hostile import mixed, twins, values
from tests.integration.hostile_tables import NUMBERS, PAIRS, Deployment, standing
from worker.client import Outcome

WANTED_NUMBERS = [-7, 2**53 + 1, 2**63 - 1, -(2**63)]
NO_NUMBERS = [
    *(text for text in twins("7") if text not in map(str, NUMBERS)),
    *(
        "7e+0",
        "7.00",
        "1e3",
        "1E3",
        "-0",
        "+0",
        "0x07",
        "7_0",
        "1_000",
        "1,000",
        "VII",
        "9" * 1_000,
    ),
    *("7 OR 1=1", "7); DROP TABLE numbers; --", "7 -- ", "7/**/", "(SELECT 7)", "id", "NULL"),
    *(7.0, 1e3, 0.0, 2.0**53, True, False, None, [7], {"id": 7}, {"7": 7}),
    *(2**63, 2**64 + 7, -(2**63) - 1, 10**4_000, -(10**4_000)),
]

WANTED_PAIRS = [(1, 'a","b'), (1, "a' OR '1'='1"), (1, "%"), (1, "a\\")]
NO_PAIRS = [
    *({"tenant": text, "name": "a"} for text in ("1 OR 1=1", "01", " 1", "1.0", "1e0", "\uff11")),
    *({"tenant": one, "name": "a"} for one in (True, None, 1.0, [1], {"$gt": 0}, 2**64 + 1)),
    *({"tenant": 1, "name": one} for one in ("", True, None, ["a"], {"a": 1}, "\ud800", "a\n")),
    *({"tenant": 1}, {"name": "a"}, {}, {"tenant": 1, "name": "a", "all": True}),
    *("1,a", "1", 1, '["1","a"]', '{"tenant":1,"name":"a"}', [1, "a"], {"Tenant": 1, "name": "a"}),
    {"tenant": '1","a', "name": ""},
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with standing(request.param, tmp_path_factory.mktemp("rows")) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def outcomes(deployment: Deployment) -> list[Outcome]:
    """What became of the texts that were asked for."""
    return deployment.submit("rows", deployment.asked())


def test_exactly_the_rows_that_were_asked_for_are_gone(
    deployment: Deployment, outcomes: list[Outcome]
) -> None:
    there = set(deployment.tables.texts)
    wanted = there.intersection(deployment.asked())

    assert len(wanted) > 200
    assert {one.item for one in outcomes if one.verdict == "deleted"} == wanted
    assert deployment.tables.left("rows") == sorted(there - wanted)


def test_every_text_comes_back_as_it_was_given(
    deployment: Deployment, outcomes: list[Outcome]
) -> None:
    assert as_texts(outcomes) == [json.dumps(text) for text in deployment.asked()]
    assert {one.verdict for one in outcomes} == {"deleted", "absent", "rejected"}


def test_a_number_is_the_row_of_that_number_alone(deployment: Deployment) -> None:
    given = mixed(NO_NUMBERS, WANTED_NUMBERS)

    outcomes = deployment.submit("numbers", given)

    assert [one.item for one in outcomes if one.verdict == "deleted"] == WANTED_NUMBERS
    assert {one.verdict for one in outcomes} == {"deleted", "rejected"}
    assert deployment.tables.left("numbers") == sorted(set(NUMBERS) - set(WANTED_NUMBERS))
    assert as_texts(outcomes) == [json.dumps(one) for one in given]


def test_a_compound_key_is_the_row_of_those_values_alone(deployment: Deployment) -> None:
    wanted = [{"tenant": tenant, "name": name} for tenant, name in WANTED_PAIRS]
    given = mixed(NO_PAIRS, wanted, values("a"))

    outcomes = deployment.submit("pairs", given)

    assert [one.item for one in outcomes if one.verdict == "deleted"] == wanted
    assert deployment.tables.left("pairs") == sorted(set(PAIRS) - set(WANTED_PAIRS))
    assert as_texts(outcomes) == [json.dumps(one) for one in given]


def test_the_history_of_an_item_is_found_by_exactly_it(
    deployment: Deployment, outcomes: list[Outcome]
) -> None:
    with deployment.service.client() as client:
        for one in outcomes[:40]:
            history = client.item("rows", one.item)

            given_by = {json.dumps(job["item"]) for job in history["jobs"]}
            assert json.dumps(history["item"]) == json.dumps(one.item)
            assert given_by <= {json.dumps(one.item)}
            assert given_by or one.verdict == "rejected"


def test_no_log_line_tells_of_a_row_or_is_forged_by_one(
    deployment: Deployment, outcomes: list[Outcome]
) -> None:
    log = deployment.service.logs()["worker1.log"].split(" ready.\n", 1)[1]
    line = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (DEBUG|INFO)/MainProcess\] [ -~]*")
    long = [one.item for one in outcomes if isinstance(one.item, str) and len(one.item) > 7]

    assert [one for one in log.split("\n")[:-1] if not line.fullmatch(one)] == []
    assert [ascii(text) for text in long if text in log] == []


def as_texts(outcomes: list[Outcome]) -> list[str]:
    """Their items as JSON, in which 1, 1.0 and true are three."""
    return [json.dumps(one.item) for one in outcomes]
