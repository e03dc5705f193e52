"""Keeps items out of everything that Celery shows: events, logs, replies to `inspect`.

Whoever sends a message may describe its arguments as he likes, or not at all;
what is shown of it is made here, from the arguments themselves.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.serialization import register
from kombu.utils.json import dumps

log = logging.getLogger("deletions.messages")

#: A larger message is refused unread.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: The argument by which a body that cannot be read tells its task.
UNREADABLE = "__unreadable__"

#: Arguments that may be shown: they name things of ours, never an item.
_SHOWN = ("job", "target", "chunk", "chunks", "chunk_items", "verdict", "after", "limit")


def decode(body: str | bytes) -> Any:
    """Read a message's body as plain JSON.

    kombu's own reader revives objects that have a `__type__`: an item of that
    shape would be altered, or the message dropped after its content was
    logged. What cannot be read becomes a call that tells so, because a sender
    who gets no answer waits for ever.
    """
    if len(body) > MAX_MESSAGE_BYTES:
        return _unreadable("too_large", f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        return _unreadable("invalid_message", f"the message is not JSON: {reason}")


def read_plain_json() -> None:
    """Let this process read message bodies with `decode`."""
    register("json", dumps, decode, content_type="application/json", content_encoding="utf-8")


def describe(arguments: Mapping[str, Any]) -> str:
    """What may be shown of a task's arguments.

    >>> describe({"target": "crm", "items": ["a", "b"]})
    "target='crm' items=2"
    """
    shown = [f"{name}={_short(arguments[name])}" for name in _SHOWN if arguments.get(name)]
    if isinstance(items := arguments.get("items"), list):
        shown.append(f"items={len(items)}")
    if "item" in arguments:
        shown.append("item=1")
    return " ".join(shown)


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
        shown = describe(self._kwargs) if isinstance(self._kwargs, dict) else ""
        self._argsrepr = "()"
        self._kwargsrepr = shown
        # The task's own context is made of this, and its failures are logged with it.
        self._request_dict.update(argsrepr=self._argsrepr, kwargsrepr=shown)

    def info(self, safe: bool = False) -> Any:  # noqa: FBT001, FBT002 (Celery's signature)
        """What `inspect` and so Flower are told: never the arguments themselves."""
        return super().info(safe=True)


class QuietConsumer(Consumer):  # type: ignore[misc]  # Celery publishes no types
    """A consumer that drops what is no message of ours without logging its content."""

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
        headers = message.headers or {}
        name = str(headers.get("task"))[:100]
        log.warning("message.dropped", extra={"task": name, "reason": reason})
        message.reject_log_error(log, self.connection_errors)


def _short(value: Any) -> str:
    """A value that may be shown, however long its sender made it."""
    return repr(value)[:64]


def _refuse_constant(name: str) -> Any:
    """NaN and Infinity are no JSON."""
    message = f"{name} is no JSON number"
    raise ValueError(message)


def _unreadable(code: str, message: str) -> list[Any]:
    """A body that makes its task answer with a refusal."""
    return [[], {UNREADABLE: {"code": code, "message": message}}, {}]
