"""What a broker's queue may hold beside messages, without ending the process.

kombu takes for granted that every entry of a list in Redis is an envelope of
its own making: one that is none ends the worker that took it, and then the
next one. Whoever may publish could end them all with one word.
"""

import json
import logging
from queue import Empty
from typing import Any

from kombu.transport import redis
from kombu.transport.virtual.base import Channel

log = logging.getLogger("deletions.messages")

#: What kombu takes for a body that travels as it is, in any case of letters.
_PLAIN = "utf-8"


def read_envelopes_carefully() -> None:
    """Let this process drop what is no envelope."""
    redis.loads = read_envelope


def read_envelope(text: str) -> Any:
    """An entry of a queue, as plain JSON: nothing in its headers is revived.

    Raises:
        Empty: it is none, as if nothing had been there.
    """
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        raise _dropped("no JSON") from None
    # What was taken and not acknowledged is kept as a list around it.
    message = entry[0] if isinstance(entry, list) and entry else entry
    if not _is_message(message):
        raise _dropped("no envelope of a message")
    return entry


def _is_message(entry: Any) -> bool:
    """Whether kombu can make a message of it, and Celery look for its task."""
    match entry:
        case {
            "body": str(body),
            "headers": dict(),
            "content-type": str(),
            "content-encoding": str(),
            "properties": {"delivery_tag": str(), "delivery_info": dict(), **rest},
        }:
            return _can_be_read(body, rest.get("body_encoding"))
    return False


def _can_be_read(body: str, encoding: Any) -> bool:
    """Whether a body is encoded as it says."""
    if not encoding:
        return True
    if not isinstance(encoding, str):
        return False
    if encoding.lower() == _PLAIN:
        return True
    codec = Channel.codecs.get(encoding)
    try:
        return codec is not None and codec.decode(body) is not None
    # Each codec has errors of its own.
    except Exception:  # noqa: BLE001
        return False


def _dropped(cause: str) -> Empty:
    # Never the entry itself, which may hold an item.
    log.warning("message.dropped", extra={"cause": cause})
    return Empty()
