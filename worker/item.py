"""An item: one thing to delete, as it was given, and its place among the others."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from itertools import repeat
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from api_adapters.base import Evidence, Integers, Item, Verdict
from worker.job import moment_text

MAX_ITEM_BYTES = 16 * 1024
MAX_KEY_BYTES = 1024
#: Objects within objects, and lists, that an item may hold.
MAX_DEPTH = 64
#: Items in one chunk, and so in one request.
MAX_CHUNK_ITEMS = 10_000
#: An item's text, a code and a message of an outcome are cut to these lengths.
MAX_CODE = 64
MAX_MESSAGE = 300

_FLAT = str | int | float | None


def to_json(value: Any) -> str:
    r"""An item as the store keeps it: JSON in ASCII, never reordered.

    >>> to_json({"b": 1, "a": "\ud800"})
    '{"b":1,"a":"\\ud800"}'
    """
    # What most items are; the whole encoder takes ten times as long for them.
    if type(value) is str:
        return encode_basestring_ascii(value)
    return str(value) if type(value) is int else _encode(value)


_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def from_json(text: str) -> Item:
    """What `to_json` was given."""
    if text[0] == '"' and "\\" not in text:
        return text[1:-1]
    item: Item = json.loads(text)
    return item


def all_from_json(texts: Iterable[str]) -> list[Item]:
    """What `to_json` was given, many at once: one reading instead of one each.

    >>> all_from_json(['"a"', "7"])
    ['a', 7]
    """
    lines = list(texts)
    joined = ",".join(lines)
    items: list[Any] = json.loads(f"[{joined}]")
    # Nothing but integers is written in digits alone.
    return Integers(items, lines) if joined.replace(",", "").isdigit() else items


def size_of(value: Any) -> int:
    r"""Bytes of a value as JSON in UTF-8: what the limit of an item is about.

    >>> size_of("ü"), size_of("\"")
    (4, 4)
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))


def is_too_deep(value: Any) -> bool:
    """Whether reading it again could exhaust a stack that is fuller than ours.

    >>> is_too_deep({"a": [{"b": 1}]})
    False
    """
    layer = [value]
    for _ in range(MAX_DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in layer]
        layer = [v for one in inner if not isinstance(one, _FLAT) for v in one]
        if not layer:
            return False
    return True


def legible(text: str, *, length: int) -> str:
    r"""At most so many characters of a text of somebody else's, in one line.

    No store keeps half a surrogate pair, and PostgreSQL no zero byte.

    >>> legible("no\0such\nid", length=7)
    'no such'
    """
    cut = text[:length]
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() else " " for one in cut)


def digest_of_key(target: str, key: str) -> bytes:
    """16 bytes that stand for a key of a target.

    The target is part of it, so that one index finds a key of one target and
    equal ids in two targets cannot be told to be equal.
    """
    named = f"{target}\0{key}".encode("utf-8", "surrogatepass")
    return blake2b(named, digest_size=16).digest()


def digests_of_keys(target: str, keys: Sequence[str]) -> list[bytes]:
    """`digest_of_key` of many keys of one target, in half the time.

    >>> digests_of_keys("crm", ["a", "b"]) == [digest_of_key("crm", key) for key in "ab"]
    True
    """
    copy = blake2b(f"{target}\0".encode("utf-8", "surrogatepass"), digest_size=16).copy
    digests = []
    for named in _encoded(keys):
        digest = copy()
        digest.update(named)
        digests.append(digest.digest())
    return digests


def _encoded(texts: Sequence[str]) -> list[bytes]:
    """Every text as UTF-8: all at once, unless there are lines in one of them."""
    encoded = "\n".join(texts).encode("utf-8", "surrogatepass").split(b"\n")
    if len(encoded) == len(texts):
        return encoded
    return [text.encode("utf-8", "surrogatepass") for text in texts]


def rank_of(key: str) -> tuple[int, str]:
    """Keys in this order ascend where numbers do, and texts of one length.

    >>> sorted(["10", "9", "1"], key=rank_of)
    ['1', '9', '10']
    """
    return len(key), key


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of one position: open (no verdict) or final.

    `doubt`: a call with this item may have been carried out, and nobody knows
    the result. `calls`: how many calls it was part of.
    """

    verdict: Verdict | None = None
    evidence: Evidence = Evidence.NONE
    code: str | None = None
    message: str | None = None
    doubt: bool = False
    calls: int = 0

    @property
    def is_final(self) -> bool:
        """Whether the position has its outcome."""
        return self.verdict is not None


# Tuples: a million of each are made for a job of a million.
class Landed(NamedTuple):
    """An item as it comes in; `refusal` is set for one refused at the door."""

    position: int
    text: str
    key: bytes | None
    refusal: Mark | None = None


class OpenItem(NamedTuple):
    """An item that still has to be decided."""

    position: int
    item: Item
    mark: Mark


class Outcome(NamedTuple):
    """What became of one item."""

    position: int
    #: The item as JSON text, as it is kept.
    text: str
    mark: Mark
    decided_at: datetime | None

    @property
    def item(self) -> Item:
        """The item as it was given."""
        return from_json(self.text)

    def as_json(self) -> dict[str, Any]:
        """The shape of a line of `results` and a row of `deletions.results`."""
        mark = self.mark
        return {
            "position": self.position,
            "item": self.item,
            "verdict": mark.verdict.value if mark.verdict else None,
            "evidence": mark.evidence.value,
            "code": mark.code,
            "message": mark.message,
            "attempts": mark.calls,
            "decided_at": moment_text(self.decided_at),
        }


def outcomes(
    positions: Iterable[int], texts: Iterable[str], mark: Mark, decided_at: datetime | None
) -> Iterator[Outcome]:
    """The outcomes of items of which all the same is known."""
    columns = zip(positions, texts, repeat(mark), repeat(decided_at), strict=False)
    # What `_make` does, without a step of ours for each.
    return map(partial(tuple.__new__, Outcome), columns)
