"""Values that try to become others on their way in or out, door by door."""

import csv
import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Finding, Reply, Verdict
from api_adapters.errors import BadItem
from tests.factories import make_claimed
from worker import requests
from worker.admitting import admit
from worker.cli.formats import write_csv, write_table
from worker.cli.jobs import print_table
from worker.client import _Order
from worker.errors import RefusedRequest
from worker.item import MAX_DEPTH, MAX_ITEM_BYTES
from worker.judging import Circumstances, judge
from worker.quiet import MAX_MESSAGE_BYTES, UNREADABLE, decode, hide_arguments
from worker.retrying import RetryRules
from worker.sources.file import FileFormat, read_items
from worker.sources.lines import BadLine

JOB = "7b2f8c1e-0000-4000-8000-000000000001"
JSONL, CSV, PLAIN = FileFormat.JSONL, FileFormat.CSV, FileFormat.PLAIN


# -- messages -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ('[{"somebody": 1, "somebody": 2}]', "an object has a key twice"),
        ('[{"a": {"b": 1, "\\u0062": 2}}]', "an object has a key twice"),
        ("[1e999]", "a number is too large"),
        ('[{"a": -1e999}]', "a number is too large"),
        ("[NaN]", "NaN is no JSON number"),
    ],
)
def test_a_message_that_readers_would_take_differently_is_refused(items: str, reason: str) -> None:
    _, kwargs, _ = decode(f'[[], {{"items": {items}}}, {{}}]')

    told = kwargs[UNREADABLE]
    assert told["code"] == "invalid_message"
    assert reason in told["message"]
    assert "somebody" not in told["message"]


def test_an_argument_that_is_given_twice_is_refused() -> None:
    _, kwargs, _ = decode('[[], {"target": "crm", "target": "erp", "items": []}, {}]')

    assert kwargs[UNREADABLE]["code"] == "invalid_message"


def test_numbers_of_a_message_stay_what_they_are() -> None:
    numbers = [2**53 + 1, 2**64, -(10**4_000), 1.5, 1e308, -0.0]

    (_, kwargs, _) = decode(json.dumps([[], {"items": numbers}, {}]))

    assert repr(kwargs["items"]) == repr(numbers)


def test_what_the_pool_logs_of_a_task_is_hidden() -> None:
    pool = logging.getLogger("celery.pool")
    before = list(pool.filters)
    hide_arguments()
    hide_arguments()
    (added,) = [one for one in pool.filters if one not in before] or before[-1:]

    def is_logged(text: str) -> bool:
        return bool(added(logging.LogRecord("celery.pool", 10, "", 0, text, ("a", "b", "c"), None)))

    assert not is_logged("TaskPool: Apply %s (args:%s kwargs:%s)")
    assert is_logged("removing tasks from inqueue until task handler finished")


# -- requests -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        JOB.replace("7", "\uff17"),
        JOB.replace("1", "\u0661"),
        JOB.replace("-", "")[:-2] + "_1",
        " " + JOB.replace("-", "")[1:],
        JOB + "\n",
        "\u200b" + JOB,
        "+" + JOB.replace("-", "")[1:],
    ],
    ids=ascii,
)
def test_an_id_that_only_python_reads_as_one_is_refused(text: str) -> None:
    with pytest.raises(RefusedRequest, match="expected a UUID"):
        requests.parse(requests.OfJob, {"job": text})


@pytest.mark.parametrize("after", [2**63, 2**70, 10**4_000])
def test_a_position_that_no_store_counts_to_is_refused(after: int) -> None:
    with pytest.raises(RefusedRequest, match="after: "):
        requests.parse(requests.Results, {"job": JOB, "after": after})


# -- files ----------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def read(text: str, file_format: FileFormat) -> list[Any]:
    column = "id" if file_format is CSV else None
    return list(read_items(io.BytesIO(text.encode()), file_format=file_format, column=column))


#: Within the length of a line, and yet nothing that the door takes.
TOO_MUCH = [
    (PLAIN, '"' * 12_000),
    (PLAIN, "\\" * 9_000),
    (PLAIN, "\x01" * 4_000),
    (PLAIN, "x" * MAX_ITEM_BYTES),
    (CSV, '"' + '""' * 9_000 + '"'),
    (JSONL, json.dumps(nested(MAX_DEPTH))),
    (JSONL, '{"a":[' + ",".join(["1e15"] * 3_000) + "]}"),
]


@pytest.mark.parametrize(("file_format", "line"), TOO_MUCH, ids=lambda one: ascii(one[:9]))
def test_a_line_that_the_door_would_refuse_costs_itself_alone(
    file_format: FileFormat, line: str
) -> None:
    header = ["id"] if file_format is CSV else []

    first, bad, last = read("\n".join([*header, "7", line, "8"]), file_format)

    assert (str(first), str(last)) == ("7", "8")
    assert isinstance(bad, BadLine)
    assert bad.number == 2


@given(st.lists(st.text(), max_size=5), st.sampled_from([PLAIN, JSONL, CSV]))
def test_what_a_file_gives_the_door_takes(texts: list[str], file_format: FileFormat) -> None:
    lines = [text * 500 for text in texts]
    if file_format is JSONL:
        lines = [json.dumps({"a": line}) for line in lines]

    given_items = [one for one in read("\n".join(["id", *lines]), file_format) if is_item(one)]

    assert len(admit(given_items, target="crm", key_of=repr).items) == len(given_items)


def is_item(line: Any) -> bool:
    return not isinstance(line, BadLine)


# -- results --------------------------------------------------------------------


def cell(item: Any) -> str:
    """The item's cell in CSV."""
    out = io.StringIO(newline="")
    write_csv([row(item)], out)
    return list(csv.reader(io.StringIO(out.getvalue(), newline="")))[1][1]


def row(item: Any) -> dict[str, Any]:
    names = ("verdict", "evidence", "code", "message", "attempts", "decided_at")
    return {"position": 0, "item": item, **dict.fromkeys(names)}


@pytest.mark.parametrize(
    "text",
    [
        "\n=1+1",
        " =1+1",
        " \t@x",
        "\u00a0-1",
        "\ufeff=1",
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20x",
        "\x00=1",
        "\n",
        "\x00",
        "\u2003\n+1",
    ],
    ids=ascii,
)
def test_a_formula_is_guarded_behind_blanks_and_in_other_widths(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", ["a=1", " a", "1-1", "\u00fc", "a@b", "'=1"], ids=ascii)
def test_what_no_spreadsheet_runs_is_left_alone(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize("item", [True, False, ["a", None], 1.5, {"a": [True]}], ids=str)
def test_what_is_no_item_is_shown_as_json(item: Any) -> None:
    out = io.StringIO()
    write_table([row(item)], out)

    assert json.loads(cell(item)) == item
    assert json.dumps(item, separators=(",", ":")) in out.getvalue()


def test_a_message_is_measured_before_it_is_read() -> None:
    assert decode(b" " * (MAX_MESSAGE_BYTES + 1))[1][UNREADABLE]["code"] == "too_large"


# -- strangers ------------------------------------------------------------------


def test_what_a_strangers_adapter_says_of_an_item_can_be_kept_and_shown() -> None:
    def wordy(item: Any) -> str:
        raise BadItem(f"no id: {item}", code=f"bad\n{item}")

    (landed,) = admit(["\ud800\x00\x1b[2J\n"], target="crm", key_of=wordy).items

    assert landed.refusal is not None
    assert landed.refusal.message is not None
    assert landed.refusal.code is not None
    assert (landed.refusal.message + landed.refusal.code).isprintable()
    assert landed.refusal.message.startswith("no id: ")


def test_what_a_strangers_adapter_says_of_a_call_can_be_kept_and_shown() -> None:
    said = Finding(Verdict.FAILED, code="no\x00", message="half \ud800 of a pair")
    given_to_it = Circumstances(RetryRules(max_attempts=1), chance=0)

    returned = judge(make_claimed(1), {0: "a"}, Reply({"a": said}), given=given_to_it)

    mark = returned.batch.mark
    assert (mark.verdict, (mark.code or "").isprintable()) == (Verdict.FAILED, True)
    assert (mark.message or "").isprintable()


# -- the client -----------------------------------------------------------------


def test_items_of_the_largest_size_fit_into_chunks_whatever_their_letters_are() -> None:
    largest = "\x7f" * (MAX_ITEM_BYTES - 6)
    items = [f"{number:04}{largest}" for number in range(100)]

    chunks = list(_Order.of({"job": JOB, "target": "crm"}, items, None).chunks())

    assert sum(map(len, chunks)) == len(items)


@pytest.mark.parametrize("item", [{1: "a"}, {None: "a"}, {1: "a", "1": "b"}], ids=repr)
def test_an_object_that_json_would_alter_is_not_sent(item: dict[Any, str]) -> None:
    with pytest.raises(ValueError, match="position 0"):
        _Order.of({"job": JOB, "target": "crm"}, [item], None)


# -- tables for people ----------------------------------------------------------


def test_a_table_for_people_shows_a_cell_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("asked by",), [[":bomb: 12:100:00"]])

    assert ":bomb: 12:100:00" in capsys.readouterr().out
