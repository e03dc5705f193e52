"""Keeps items out of everything that Celery shows: events, logs, replies to `inspect`.

Whoever sends a message may describe its arguments as he likes, or not at all;
what is shown of it is made here, from the arguments themselves.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from math import isinf
from typing import Any

from celery import states
from celery.exceptions import InvalidTaskError
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.serialization import register
from kombu.utils.json import dumps

from api_adapters.base import Integers

log = logging.getLogger("deletions.messages")

#: A larger message is refused unread.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: The argument by which a body that cannot be read tells its task.
UNREADABLE = "__unreadable__"

#: What stands before and after the items in a message of our client's.
_ITEMS, _END = '"items": [', "]}, {}]"

#: How names of targets and jobs look.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: Of a message's id; a longer one is none.
_LONGEST_ID = 256

#: Arguments that may be shown: they name things of ours, never an item.
_SHOWN = ("job", "target", "chunk", "chunks", "chunk_items", "verdict", "after", "limit")


def decode(body: str | bytes) -> Any:
    """Read a message's body as plain JSON.

    kombu's own reader revives objects that have a `__type__`: an item of that
    shape would be altered, or the message dropped after its content was
    logged. What cannot be read, or not by everybody alike, becomes a call that
    tells so, because a sender who gets no answer waits for ever.
    """
    if len(body) > MAX_MESSAGE_BYTES:
        return _unreadable("too_large", f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    try:
        # As it was sent it is text; a transport gives bytes.
        text = body.decode("ascii") if isinstance(body, bytes) and body.isascii() else body
        value = _read_numbers(text) if isinstance(text, str) else None
        value = _read(body) if value is None else value
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        return _unreadable("invalid_message", f"the message is not JSON: {reason}")
    if not _has_form(value):
        # Celery's consumer takes the form for granted, and its process ends
        # over a number, with the message given back for the next one.
        return _unreadable("invalid_message", "expected [[], {arguments}, {}] as the body")
    return value


def read_plain_json() -> None:
    """Let this process read message bodies with `decode`."""
    register("json", dumps, decode, content_type="application/json", content_encoding="utf-8")


def hide_arguments() -> None:
    """Keep what the pool logs of a task at DEBUG to itself: it is the whole message."""
    logging.getLogger("celery.pool").addFilter(_tells_no_arguments)


def describe(arguments: Mapping[str, Any]) -> str:
    """What may be shown of a task's arguments.

    >>> describe({"target": "crm", "items": ["a", "b"]})
    "target='crm' items=2"
    """
    named = ((name, arguments.get(name)) for name in _SHOWN)
    shown = [f"{name}={value!r}" for name, value in named if _may_be_shown(value)]
    if isinstance(items := arguments.get("items"), list):
        shown.append(f"items={len(items)}")
    if "item" in arguments:
        shown.append("item=1")
    return " ".join(shown)


def names_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    r"""The job and the target that a task is about, as fields of what is logged meanwhile.

    >>> names_in({"target": "crm", "items": ["a"], "job": "no\nname"})
    {'target': 'crm'}
    """
    named = ((name, arguments.get(name)) for name in ("job", "target"))
    return {name: value for name, value in named if _may_be_shown(value)}


class Shown:
    """A task's result of which only a count is shown."""

    __slots__ = ("_body", "_text")

    def __init__(self, body: Any, text: str) -> None:
        self._body = body
        self._text = text

    def __json__(self) -> Any:
        """What the caller gets."""
        return self._body

    def __repr__(self) -> str:
        """What everybody else sees."""
        return self._text


class QuietRequest(Request):  # type: ignore[misc]  # Celery publishes no types
    """A request whose arguments are shown as `describe` says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Both stand in log lines, where a line break would begin another one.
        if not _is_id(self.id):
            raise InvalidTaskError("its id cannot be shown")
        self.name = self._type
        shown = describe(self._kwargs) if isinstance(self._kwargs, dict) else ""
        self._argsrepr = "()"
        self._kwargsrepr = shown
        # The task's own context is made of this, and its failures are logged with it.
        self._request_dict.update(argsrepr=self._argsrepr, kwargsrepr=shown, shadow=None)
        # As it was read to be shown here; the pool's thread would read it once more.
        self._body, self._content_type, self._content_encoding = self._payload, None, None

    def info(self, safe: bool = False) -> Any:  # noqa: FBT001, FBT002 (Celery's signature)
        """What `inspect` and so Flower are told: never the arguments themselves."""
        return super().info(safe=True)


class QuietConsumer(Consumer):  # type: ignore[misc]  # Celery publishes no types
    """A consumer that refuses what is no message of ours without logging its content.

    The sender is told, where the message names its id.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hide_arguments()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """A handler whom no message can end the process with."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            # An empty body is never decoded, so nothing would tell its sender.
            message.body = message.body or b"null"
            try:
                handle(message)
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001 (headers may break it in any way)
                self._drop(message, type(error).__name__)

        return on_message

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Something that is no task."""
        self._drop(message, "it is no task message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task that nobody here knows."""
        self._drop(message, "no task has that name here")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task message that breaks the protocol."""
        self._drop(message, type(exc).__name__)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body in a form that is not accepted."""
        self._drop(message, type(exc).__name__)

    def _drop(self, message: Any, reason: str) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {}
        name = str(headers.get("task"))[:100]
        log.warning("message.dropped", extra={"task": name, "reason": reason})
        message.reject_log_error(log, self.connection_errors)
        self._refuse(headers.get("id"), reason)

    def _refuse(self, task_id: Any, reason: str) -> None:
        """Let the sender read why nothing comes of it."""
        if not isinstance(task_id, str) or not 0 < len(task_id) <= _LONGEST_ID:
            return
        message = f"the message cannot be taken: {reason}"
        error = {"code": "invalid_message", "message": message, "data": {}}
        try:
            self.app.backend.store_result(task_id, {"error": error}, states.SUCCESS)
        # An answer that cannot be given must not cost the messages that follow.
        except Exception as away:  # noqa: BLE001
            log.warning("refusal.lost", extra={"cause": type(away).__name__})


def _may_be_shown(value: Any) -> bool:
    """A number or a name: whatever else its sender put there may be an item."""
    if isinstance(value, str):
        return _NAME.fullmatch(value) is not None
    return isinstance(value, int) and abs(value) < 2**31


def _read(text: str | bytes) -> Any:
    """JSON that every reader takes for the same. Raises ValueError, RecursionError."""
    return json.loads(
        text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse_constant
    )


def _read_numbers(body: str) -> Any:
    """A call that ends with items which are all numbers, as `Integers`; None for any other.

    Their digits stand there, and would be written from the numbers again. What
    lies between holds no quote, so that it is a list where it would be one without
    its numbers. Raises ValueError, RecursionError.
    """
    head, begins, tail = body.partition(_ITEMS)
    numbers, end = tail[: -len(_END)], tail[-len(_END) :]
    # A quote after a backslash begins no name.
    if not begins or end != _END or not numbers.isascii() or head.endswith("\\"):
        return None
    # JSON has no empty number, and none that begins with a zero, but for zero.
    listed = f",{numbers},"
    if ",," in listed or ",0" in listed or not numbers.replace(",", "").isdigit():
        return None
    value = _read(f"{head}{begins}{_END}")
    match value:
        case [list(), {"items": []} as arguments, dict()]:
            digits = numbers.split(",")
            arguments["items"] = Integers(map(int, digits), digits)
            return value
    return None


class _Ambiguous(ValueError):
    """JSON that one reader takes for this and another for that."""

    def __init__(self, msg: str) -> None:
        super().__init__(msg)
        self.msg = msg


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as it stands there, or none: of two values one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Ambiguous("an object has a key twice")
    return found


def _finite(text: str) -> float:
    """A fraction; one that is too large would be given back as no JSON."""
    value = float(text)
    if isinf(value):
        raise _Ambiguous("a number is too large")
    return value


def _refuse_constant(name: str) -> Any:
    """NaN and Infinity are no JSON."""
    raise _Ambiguous(f"{name} is no JSON number")


def _tells_no_arguments(record: logging.LogRecord) -> bool:
    """Whether a record of the pool is not about a task that is handed to it."""
    return not str(record.msg).startswith("TaskPool: Apply")


def _is_id(value: Any) -> bool:
    """Whether a message's id can be shown, and answered under."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST_ID


def _has_form(value: Any) -> bool:
    """Whether a body is a task's call, or one of Celery's own: a command, a result, events."""
    match value:
        case dict() | [list(), dict(), dict()]:
            return True
        case [dict(), *others]:
            return all(isinstance(other, dict) for other in others)
        case _:
            return False


def _unreadable(code: str, message: str) -> list[Any]:
    """A body that makes its task answer with a refusal."""
    return [[], {UNREADABLE: {"code": code, "message": message}}, {}]
