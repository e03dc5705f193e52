"""GPTBots: the contract, filters on their way to a record, and queries."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from api_adapters.base import Breach, Item, Presence, Reply, Verdict
from api_adapters.contract import FreePace, assert_sound, by_key, soon
from api_adapters.contract_http import HttpAdapterContract
from api_adapters.errors import BadItem, Hopeless, Paced, Refused, Transient
from api_adapters.fakes.base import Said
from api_adapters.fakes.faults import Plan
from api_adapters.fakes.gptbots import TABLE, Backend, Shape
from api_adapters.fakes.server import PracticeServer
from api_adapters.gptbots import Gptbots

KEY = "practice-key-0-1"
SETTINGS = {"adapter": "gptbots", "token": {"env": "GPTBOTS_KEY"}, "table_id": TABLE}
ONE, TWO, NONE = Backend.ids(3)


def by_sku(ident: str) -> dict[str, Any]:
    return {"filter": {"sku": f"SKU-{ident}"}}


class TestGptbots(HttpAdapterContract):
    adapter_type = Gptbots
    backend_type = Backend
    settings: ClassVar = SETTINGS
    environment: ClassVar = {"GPTBOTS_KEY": KEY}
    hidden = (KEY, "Bearer")
    bad_items = (
        541278000000000000,
        "5 4",
        "541278\n",
        "\uff15\uff14",
        '{"filter":{"sku":"A-1"}}',
        "5" * 2**20,
        {},
        {"record_id": ""},
        {"record_id": 7},
        {"record_id": None, "filter": {"sku": "A-1"}},
        {"record_id": "7", "filter": {}},
        {"record_id": "7", "table_id": "other"},
        {"filter": {}},
        {"filter": "sku"},
        {"filter": {"sku": "A-1", "title": "B"}},
        {"filter": {"sku": "A-1"}, "delete_data": []},
        {"filter": {"sku": ""}},
        {"filter": {"": "A-1"}},
        {"filter": {"sku": None}},
        {"filter": {"sku": True}},
        {"filter": {"sku": 1.5}},
        {"filter": {"sku": 2**53}},
        {"filter": {"sku": ["A-1"]}},
        {"filter": {"sku": {"$ne": ""}}},
        {"filter": {"sku": "\ud800"}},
        {"filter": {"sku": "x" * 2**20}},
    )
    same_items = (
        (ONE, {"record_id": ONE}),
        (ONE, {"record_id": ONE, "filter": {"sku": "A-1"}}),
    )


def test_only_a_filter_does_not_say_which_record_it_means() -> None:
    adapter = make("http://127.0.0.1:9")
    items: list[Item] = [ONE, {"record_id": ONE}, {"record_id": ONE, "filter": {"sku": "A-1"}}]

    assert [adapter.is_key_known(item) for item in items] == [True, True, True]
    assert not adapter.is_key_known({"filter": {"sku": "A-1"}})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PracticeServer]:
    monkeypatch.setenv("GPTBOTS_KEY", KEY)
    with PracticeServer(Backend([ONE, TWO])) as server:
        yield server


@pytest.fixture
def practice(server: PracticeServer) -> Backend:
    assert isinstance(server.practice, Backend)
    return server.practice


class FewPlaces(FreePace):
    """Lets so many requests out, and then none."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self._places = places

    def enter(self, until: Any) -> None:
        if self.entered == self._places:
            raise Paced("used up", wait=timedelta(seconds=1))
        super().enter(until)


def make(base_url: str, *, pace: FreePace | None = None, **more: Any) -> Gptbots:
    given = {**SETTINGS, "base_url": base_url, **more}
    return Gptbots(Gptbots.Settings.model_validate(given), pace=pace or FreePace())


def delete(server: PracticeServer, items: list[Item], **more: Any) -> Reply:
    adapter = make(server.base_url, **more)
    sent = by_key(adapter, items)
    try:
        reply = adapter.delete(sent, until=soon())
    finally:
        adapter.close()
    assert_sound(reply, sent)
    return reply


def told(reply: Reply) -> list[str]:
    return [f"{found.verdict} {found.evidence}" for found in reply.findings.values()]


# Rules 3, 5 and 6, one line each: what verify says, the items, their outcomes,
# how many requests for a deletion it took, and how many records it deleted.
@pytest.mark.parametrize(
    ("verify", "items", "outcomes", "calls", "deleted"),
    [
        ("never", [ONE, NONE], ["accepted batch"] * 2, 1, 1),
        ("filters", [ONE, NONE], ["accepted batch"] * 2, 1, 1),
        ("never", [by_sku(ONE)], ["accepted batch"], 1, 1),
        ("filters", [by_sku(ONE)], ["deleted probe"], 1, 1),
        ("never", [by_sku(NONE)], ["absent probe"], 0, 0),
        ("filters", [by_sku(NONE)], ["absent probe"], 0, 0),
        ("filters", [by_sku(ONE), TWO], ["accepted batch", "deleted probe"], 1, 2),
        ("filters", [by_sku(ONE), ONE], ["accepted batch", "deleted probe"], 1, 1),
        ("never", [{"filter": {"id": ONE}}], ["absent probe"], 0, 0),
        ("never", [{"filter": {"id": ONE[::-1]}}], ["accepted batch"], 1, 1),
        ("never", [{"filter": {"title": "x"}}], ["rejected probe"], 0, 0),
        ("never", [{"filter": {"nowhere": "x"}}], ["rejected probe"], 0, 0),
    ],
)
@pytest.mark.parametrize("shape", Shape)
def test_the_table_of_items(
    server: PracticeServer,
    practice: Backend,
    *,
    shape: Shape,
    verify: str,
    items: list[Item],
    outcomes: list[str],
    calls: int,
    deleted: int,
) -> None:
    practice.shape = shape

    reply = delete(server, items, verify=verify)

    assert sorted(told(reply)) == outcomes
    assert (practice.calls, practice.deleted.total()) == (calls, deleted)


def test_an_item_with_both_is_deleted_by_its_record_id_and_told(
    server: PracticeServer, practice: Backend
) -> None:
    reply = delete(server, [{"record_id": ONE, "filter": {"sku": f"SKU-{TWO}"}}])

    assert practice.remaining == {TWO}
    assert [warned.breach for warned in reply.warnings] == [Breach.CONTRADICTION]


def test_a_record_that_is_still_there_stays_open(server: PracticeServer) -> None:
    adapter = make(server.base_url, verify="filters")
    practice = server.practice
    take = practice.take
    practice.take = lambda keys: take([])  # type: ignore[method-assign]

    reply = adapter.delete(by_key(adapter, [by_sku(ONE)]), until=soon())

    assert told(reply) == ["unknown none"]
    assert all(found.may_repeat for found in reply.findings.values())
    adapter.close()


@pytest.mark.parametrize("refusal", [429, 40008, 40127, 403106])
def test_what_stops_a_look_stops_the_deletion_too(
    server: PracticeServer, practice: Backend, refusal: int
) -> None:
    practice.refusal = refusal
    adapter = make(server.base_url)
    first, second, third = sent = by_key(adapter, [ONE, by_sku(ONE), by_sku(TWO)])

    reply = adapter.delete(sent, until=soon())

    assert practice.calls == 0
    assert (reply.findings, reply.unsent) == ({}, {first, third})
    assert isinstance(reply.error, Transient | Hopeless)
    assert not reply.error.may_have_run
    assert bool(getattr(reply.error, "wait", None)) is (refusal in {429, 40008})
    assert second not in reply.unsent
    adapter.close()


# Rule 4 and rule 6 of all vendors: it is the same record that is deleted again.
@pytest.mark.parametrize("plan", ["lost@1", "html@1", "empty@1", "truncated@1"])
@pytest.mark.parametrize("verify", ["never", "filters"])
def test_a_record_that_took_the_place_of_another_is_not_deleted(
    server: PracticeServer, practice: Backend, verify: str, plan: str
) -> None:
    practice.plan = Plan(plan)
    adapter = make(server.base_url, verify=verify)
    sent = by_key(adapter, [by_sku(ONE)])
    with pytest.raises(Transient):
        adapter.delete(sent, until=soon())
    assert practice.remaining == {TWO}
    practice.named_as[TWO] = ONE

    looked = adapter.probe(sent, until=soon())
    again = adapter.delete(sent, until=soon())
    anew = adapter.delete(sent, until=soon())

    assert set(looked.values()) == {Presence.GONE}
    assert told(again) == ["unknown none"]
    assert not any(found.may_repeat for found in again.findings.values())
    # What is asked for after that is meant as it is.
    assert told(anew) == [{"never": "accepted batch", "filters": "deleted probe"}[verify]]
    assert practice.remaining == set()
    adapter.close()


def test_a_deletion_that_did_not_run_is_looked_up_anew(
    server: PracticeServer, practice: Backend
) -> None:
    practice.plan = Plan("busy@1")
    adapter = make(server.base_url)
    sent = by_key(adapter, [by_sku(ONE)])
    with pytest.raises(Transient):
        adapter.delete(sent, until=soon())
    practice.remaining = {TWO}
    practice.named_as[TWO] = ONE

    assert told(adapter.delete(sent, until=soon())) == ["accepted batch"]
    adapter.close()


@pytest.mark.parametrize("places", [0, 1, 2, 3, 4])
def test_wherever_the_pace_ends_a_call_each_key_has_its_place(
    server: PracticeServer, practice: Backend, places: int
) -> None:
    items: list[Item] = [by_sku(ONE), by_sku(TWO)]
    try:
        reply = delete(server, items, pace=FewPlaces(places), verify="filters")
    except Paced as error:
        reply = Reply(error=error)

    assert isinstance(reply.error, Paced)
    assert len(practice.deleted) == (2 if places > 2 else 0)
    assert all(
        found.verdict in {Verdict.DELETED, Verdict.UNKNOWN} for found in reply.findings.values()
    )
    assert len(reply.findings) == len(practice.deleted)


@pytest.mark.parametrize(
    ("plan", "kind", "may_have_run"),
    [
        ("lost", Transient, True),
        ("error", Transient, True),
        ("busy_code", Transient, False),
        ("busy:3", Transient, False),
        ("empty", Transient, True),
    ],
)
def test_a_deletion_by_id_that_fails_may_be_sent_again(
    server: PracticeServer, practice: Backend, plan: str, kind: type, *, may_have_run: bool
) -> None:
    practice.plan = Plan(plan)

    with pytest.raises(kind) as failure:
        delete(server, [ONE, by_sku(TWO)])

    assert failure.value.may_have_run is may_have_run


def test_a_code_as_text_is_a_code(server: PracticeServer, practice: Backend) -> None:
    practice.plan = Plan("as_text")

    assert told(delete(server, [ONE])) == ["accepted batch"]


# Rule 6: where the read call is denied or missing, a filter is sent once.
@pytest.mark.parametrize(
    ("status", "body", "calls"),
    [(404, b"", 1), (404, b"<html>", 1), (405, b"", 1), (404, b'{"code":404}', 1),
     (404, b'{"table_info":', 0), (500, b"", 0), (403, b"", 0)],
)  # fmt: skip
def test_only_a_read_call_that_is_missing_is_done_without(
    server: PracticeServer, practice: Backend, status: int, body: bytes, calls: int
) -> None:
    practice.attend = lambda asked: Said(status, body)  # type: ignore[method-assign]

    if calls:
        assert told(delete(server, [by_sku(ONE)])) == ["accepted batch"]
    else:
        with pytest.raises((Transient, Hopeless)):
            delete(server, [by_sku(ONE)])

    assert practice.calls == calls


@pytest.mark.parametrize("missing", ["may_read", "has_read_call"])
@pytest.mark.parametrize(
    ("plan", "outcome", "may_repeat", "left"),
    [
        ("", "accepted batch", True, 0),
        ("lost@2", "unknown none", False, 1),
        ("html@2", "unknown none", False, 1),
        ("error@2", "unknown none", False, 1),
    ],
)
def test_a_filter_that_cannot_be_looked_up_is_sent_once(
    server: PracticeServer,
    practice: Backend,
    *,
    missing: str,
    plan: str,
    outcome: str,
    left: int,
    may_repeat: bool,
) -> None:
    setattr(practice, missing, False)
    practice.plan = Plan(plan)
    first, second = by_key(make(server.base_url), [by_sku(TWO), by_sku(NONE)])

    reply = delete(server, [ONE, by_sku(TWO), by_sku(NONE)])

    assert told(reply)[:2] == ["accepted batch", outcome]
    assert reply.findings[first].may_repeat is may_repeat
    assert reply.unsent == ({second} if left else frozenset())
    assert (reply.error is not None) is bool(left)
    assert practice.requests == practice.calls + 1


def test_a_filter_that_did_not_run_may_be_sent_again(
    server: PracticeServer, practice: Backend
) -> None:
    practice.may_read = False
    practice.plan = Plan("busy_code")

    with pytest.raises(Transient) as failure:
        delete(server, [by_sku(ONE)])

    assert failure.value.wait
    assert not failure.value.may_have_run


def test_a_refused_filter_is_rejected_alone(server: PracticeServer, practice: Backend) -> None:
    practice.may_read = False
    practice.poison = {ONE}

    reply = delete(server, [by_sku(ONE), by_sku(TWO)])

    assert told(reply) == ["rejected none", "accepted batch"]


def test_one_bad_record_refuses_the_call(server: PracticeServer, practice: Backend) -> None:
    practice.poison = {ONE}

    with pytest.raises(Refused):
        delete(server, [ONE, TWO])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table_id": "other"}, "table_id"),
        ({"base_url": "/nowhere"}, "base_url"),
    ],
)
def test_what_is_wrong_is_told_by_the_check_too(
    server: PracticeServer, change: dict[str, str], message: str
) -> None:
    more = {**change, "base_url": server.base_url + change.get("base_url", "")}
    adapter = make(more.pop("base_url"), **more)

    for act in (adapter.check, lambda until: adapter.delete({ONE: ONE}, until=until)):
        with pytest.raises(Hopeless, match=message) as failure:
            act(until=soon())
        assert failure.value.closes_target
        assert not failure.value.may_have_run
    adapter.close()


def test_a_key_without_the_permission_stops_the_job(
    server: PracticeServer, practice: Backend
) -> None:
    practice.may_delete = False

    with pytest.raises(Hopeless, match="permission") as failure:
        delete(server, [ONE])

    assert not failure.value.closes_target
    assert failure.value.code == "403131"


def test_a_key_from_a_file_is_read_anew_once_it_is_refused(
    server: PracticeServer, practice: Backend, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    adapter = make(server.base_url, token={"file": str(tmp_path / "key")})
    adapter.check(until=soon())
    practice.expire()

    with pytest.raises(Hopeless, match="change token"):
        adapter.delete({ONE: ONE}, until=soon())
    (tmp_path / "key").write_text(practice.token)

    assert told(adapter.delete({ONE: ONE}, until=soon())) == ["accepted batch"]
    adapter.close()


def test_only_filters_can_be_looked_at(server: PracticeServer, practice: Backend) -> None:
    adapter = make(server.base_url)
    sent = by_key(adapter, [ONE, by_sku(ONE), by_sku(NONE), {"filter": {"title": "x"}}])
    keys = list(sent)

    seen = adapter.probe(sent, until=soon())

    assert seen == {keys[1]: Presence.THERE, keys[2]: Presence.GONE}
    assert (practice.requests, practice.calls) == (3, 0)
    adapter.close()


@pytest.mark.parametrize(
    "text",
    [
        '"},{"record_id":"1',
        "x\r\nAuthorization: y",
        "e\u0301",
        "\u00e9",
        "../..?a=1#",
        "\U0001f5d1",
    ],
)
def test_a_filter_is_carried_intact(server: PracticeServer, practice: Backend, text: str) -> None:
    asked: list[bytes] = []
    attend = practice.attend
    practice.attend = lambda one: asked.append(one.body) or attend(one)  # type: ignore[method-assign,func-returns-value]

    reply = delete(server, [{"filter": {"sku": text}}])

    assert told(reply) == ["absent probe"]
    assert json.loads(asked[0])["filter"] == {"sku": text}


def test_two_filters_have_one_key_only_if_they_are_one() -> None:
    adapter = make("http://gptbots")
    values: list[Any] = ["1", 1, "e\u0301", "\u00e9", 2**53 - 1, str(2**53 - 1)]

    assert len({adapter.key({"filter": {"sku": value}}) for value in values}) == len(values)
    with pytest.raises(BadItem):
        adapter.key({"filter": {"sku": -(2**53)}})


@pytest.mark.parametrize(
    "given",
    [
        {"token": "literal"},
        {"table_id": ""},
        {"table_id": "a b"},
        {"verify": "always"},
        {"max_items_per_call": 1_001},
    ],
)
def test_a_table_that_cannot_work_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make("http://gptbots", **given)


def test_what_is_sent_keeps_to_the_documented_bounds() -> None:
    assert Gptbots.limits.max_items_per_call == 1_000
    assert Gptbots.limits.requests_per_second == 1
