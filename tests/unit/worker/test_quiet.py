"""What Celery reads and shows of a message."""

import json
import pickle
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection, Message

from api_adapters.base import Integers
from worker.quiet import MAX_MESSAGE_BYTES, UNREADABLE, QuietRequest, Shown, decode, describe


def refusal(body: str | bytes) -> dict[str, str]:
    args, kwargs, embed = decode(body)
    assert (args, embed) == ([], {})
    told: dict[str, str] = kwargs[UNREADABLE]
    return told


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "",
        b"\xff\xfe",
        '[[], {"items": [NaN]}, {}]',
        '[[], {"items": [Infinity]}, {}]',
        '[[], {"items": [-Infinity]}, {}]',
        '[[], {"items": [' + "[" * 200_000 + "]" * 200_000 + "]}, {}]",
        '[[], {"items": [' + "1" * 5_000 + "]}, {}]",
    ],
    ids=lambda body: ascii(body[:30]),
)
def test_what_is_no_json_becomes_a_refusal(body: str | bytes) -> None:
    assert refusal(body)["code"] == "invalid_message"


def test_a_refusal_holds_nothing_of_the_message() -> None:
    assert "somebody" not in refusal('[[], {"items": ["somebody", }]')["message"]


def test_a_message_that_is_too_large_is_not_read() -> None:
    assert refusal(b"[" * (MAX_MESSAGE_BYTES + 1))["code"] == "too_large"


def test_objects_are_not_revived() -> None:
    body = [[], {"items": [{"__type__": "uuid", "__value__": {"hex": "x"}}]}, {}]

    assert decode(json.dumps(body)) == body


def read_plainly(body: str) -> Any:
    """A body as Python reads it; None if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


#: What a body may be made of: all that matters where its numbers are looked for.
PIECES = [
    '"items": [',
    "]}, {}]",
    "[[], {",
    '"job": "a", ',
    '"items": [], ',
    '"x": "',
    '"',
    "\\",
    *"0123456789,-. {}[]",
    "\u0663",
    "10,20",
    "007",
    "1e5",
    "null",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_whatever_stands_in_a_body_numbers_are_read_as_everybody_reads_them(between: str) -> None:
    for body in (between, f'[[], {{"items": [{between}]}}, {{}}]', f"[[], {{{between}]}}, {{}}]"):
        for sent in (body, body.encode()):
            read, plainly = decode(sent), read_plainly(body)
            if UNREADABLE not in repr(read):
                assert repr(read) == repr(plainly)


def as_sent(numbers: list[int]) -> str:
    """A body of our client's."""
    return f'[[], {{"job": "a", "items": [{",".join(map(str, numbers))}]}}, {{}}]'


@given(st.lists(st.integers()))
def test_numbers_keep_their_digits(numbers: list[int]) -> None:
    _, arguments, _ = decode(as_sent(numbers))

    items = arguments["items"]
    assert items == numbers
    if isinstance(items, Integers):
        assert items.digits == list(map(str, numbers))
        assert pickle.loads(pickle.dumps(items)).digits == items.digits


@pytest.mark.parametrize(
    "body",
    [
        '[[], {"items":[], "x\\"items": [1,2]}, {}]',
        '[{"a":1},{"items":[]},{"items": [1,2]}, {}]',
        '[{"items": [1]}, {}]',
        '[[], {"requested_by": "Ü", "items": [1,2]}, {}]',
    ],
)
def test_numbers_stay_where_they_stand(body: str) -> None:
    read = json.loads(body)
    assert decode(body) == read
    assert decode(body.encode()) == read
    assert decode(body.encode("utf-16")) == read


def test_numbers_of_a_large_job_are_not_written_again() -> None:
    payload = {"body": as_sent([7, 10, 2**70]), "properties": {"delivery_tag": "1"}}
    # As a worker takes it from Redis, with the body in bytes again.
    with Connection("memory://") as connection, connection.channel() as channel:
        taken = channel.Message(payload, channel=channel)

    _, arguments, _ = decode(taken.body)

    assert isinstance(arguments["items"], Integers)
    assert arguments["items"].digits == ["7", "10", str(2**70)]


@pytest.mark.parametrize(
    "numbers", ["0,1", "1,0", "01", "1,,2", "1,", ",1", "", "1, 2", "-1", "1.0"]
)
def test_other_numbers_are_read_as_any_json(numbers: str) -> None:
    body = f'[[], {{"job": "a", "items": [{numbers}]}}, {{}}]'

    read = decode(body)
    assert not isinstance(read[1].get("items"), Integers)
    assert (UNREADABLE in read[1]) == (read_plainly(body) is None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"items": ["somebody"]},
        {"item": "somebody"},
        {"item": {"name": "somebody"}},
        {"query": {"name": "somebody"}},
        {"requested_by": "somebody"},
        {"job": {"a": "somebody"}},
        {"job": ["somebody"]},
        {"job": "who is somebody?"},
        {"target": "x" * 100 + "somebody"},
        {"somebody": 1},
        {"items": {"somebody": 1}},
        {"chunk": 10**40, "items": "somebody"},
    ],
    ids=str,
)
def test_a_description_never_shows_an_item(arguments: dict[str, Any]) -> None:
    assert "somebody" not in describe(arguments)


def test_a_description_names_job_chunk_and_count() -> None:
    given = {"job": "7b2f8c1e-0000-4000-8000-000000000001", "chunk": 0, "items": ["a", "b"]}

    assert describe(given) == "job='7b2f8c1e-0000-4000-8000-000000000001' chunk=0 items=2"


def test_a_result_shows_its_count_and_answers_in_full() -> None:
    shown = Shown({"rows": ["somebody"]}, "rows=1")

    assert (repr(shown), str(shown)) == ("rows=1", "rows=1")
    assert shown.__json__() == {"rows": ["somebody"]}


def test_what_was_read_to_be_shown_is_not_read_again() -> None:
    app = Celery("quiet", set_as_current=False)

    @app.task(name="deletions.append")  # type: ignore[untyped-decorator]  # Celery publishes no types
    def task() -> None:
        """Nobody runs it."""

    call = [[], {"job": "j", "items": ["a", "b"]}, {}]
    message = Message(
        body=json.dumps(call),
        content_type="application/json",
        content_encoding="utf-8",
        headers={"id": "one", "task": "deletions.append"},
        accept={"application/json"},
    )
    given: list[Any] = []

    class Pool:
        def apply_async(self, target: Any, args: Any, **_: Any) -> None:
            given.extend(args)

    request = QuietRequest(message, app=app, task=task)
    request.execute_using_pool(Pool())

    assert request.kwargsrepr == "job='j' items=2"
    assert given[3:] == [call, None, None]
