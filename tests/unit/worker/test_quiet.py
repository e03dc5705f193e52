"""What Celery reads and shows of a message."""

import json
from typing import Any

import pytest
from celery import Celery
from kombu import Message

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
