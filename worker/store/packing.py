"""How items are packed into pages, and unpacked: a line and 16 bytes a place.

The line is empty where a duplicate was left out, and the bytes are zeros where
an item has no key. Pages of one job have no place in common and are never
longer than `PLACES_OF_A_PAGE`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import Any, NamedTuple

from sqlalchemy import Row

from worker.store.tables import PLACES_OF_A_PAGE

#: Bytes of texts after which a page of large items is parted.
PAGE_BYTES = 256 * 1024
KEY_BYTES = 16
NO_KEY = bytes(KEY_BYTES)

#: (job, first position, last position).
Stretch = tuple[int, int, int]


class Place(NamedTuple):
    """An item in its page."""

    position: int
    text: str
    key: bytes | None


class Texts:
    """The texts of some pages of one job, that were read together."""

    __slots__ = ("_firsts", "_lines")

    def __init__(self, read: Iterable[tuple[int, str]]) -> None:
        """Of pages given as (first position, texts), in order."""
        self._firsts: list[int] = []
        self._lines: list[list[str]] = []
        for first, texts in read:
            self._firsts.append(first)
            self._lines.append(texts.split("\n"))

    def between(self, first: int, last: int) -> tuple[Sequence[int], list[str]]:
        """Positions and texts of the items of a stretch, in order."""
        found = list(self._parts(first, last))
        if len(found) == 1 and "" not in found[0][1]:
            start, lines = found[0]
            return range(start, start + len(lines)), lines
        positions: list[int] = []
        texts: list[str] = []
        for start, lines in found:
            positions += compress(range(start, start + len(lines)), lines)
            texts += filter(None, lines)
        return positions, texts

    def _parts(self, first: int, last: int) -> Iterator[tuple[int, list[str]]]:
        """(position, lines) of what each page holds of a stretch."""
        start = max(bisect_right(self._firsts, first) - 1, 0)
        for begin, lines in zip(self._firsts[start:], self._lines[start:], strict=True):
            if begin > last:
                break
            if some := lines[max(first - begin, 0) : last - begin + 1]:
                yield max(first, begin), some


class Keys:
    """The keys of some pages of one job, that were read together."""

    __slots__ = ("_firsts", "_packed")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._packed: list[bytes] = []

    def add(self, first: int, packed: bytes) -> None:
        """Add those of the next page."""
        self._firsts.append(first)
        self._packed.append(packed)

    def between(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Positions and keys of a stretch, of items that have one."""
        start = max(bisect_right(self._firsts, first) - 1, 0)
        for begin, packed in zip(self._firsts[start:], self._packed[start:], strict=True):
            if begin > last:
                break
            edge = max(first, begin)
            some = packed[(edge - begin) * KEY_BYTES : (last - begin + 1) * KEY_BYTES]
            for position, key in enumerate(cut_keys(some), edge):
                if key != NO_KEY:
                    yield position, key


#: Of a job without pages.
NO_TEXTS = Texts([])


def rows_of(
    job: int, first: int, texts: Sequence[str], keys: Sequence[bytes | None]
) -> Iterator[tuple[Any, ...]]:
    """The rows of `pages` for places from `first` on."""
    for start in range(0, len(texts), PLACES_OF_A_PAGE):
        stop = min(start + PLACES_OF_A_PAGE, len(texts))
        for begin, end in _light(texts, start, stop):
            row = row_of(job, first + begin, texts[begin:end], keys[begin:end])
            if row is not None:
                yield row


def _light(texts: Sequence[str], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """A page's worth in parts that are no heavier than a page, or single."""
    # Joined, they are measured in a fourth of the time.
    if stop - start == 1 or len("".join(texts[start:stop])) <= PAGE_BYTES:
        yield start, stop
        return
    middle = (start + stop) // 2
    yield from _light(texts, start, middle)
    yield from _light(texts, middle, stop)


def row_of(
    job: int, first: int, texts: Sequence[str], keys: Sequence[bytes | None]
) -> tuple[Any, ...] | None:
    """One row of `pages`, that begins and ends with an item; None where none is left in it."""
    count = len(texts) - texts.count("")
    if not count:
        return None
    begin = next(index for index, text in enumerate(texts) if text)
    end = next(len(texts) - index for index, text in enumerate(reversed(texts)) if text)
    first, texts, keys = first + begin, texts[begin:end], keys[begin:end]
    text = "\n".join(texts)
    known = len(keys) - keys.count(None)
    packed = b"".join(keys) if known == len(keys) else b"".join(key or NO_KEY for key in keys)  # type: ignore[arg-type]  # none of them is None
    size = len(text) - len(texts) + 1
    return (job, first, first + len(texts) - 1, count, known, size, text, packed)


def frames(
    places: Iterable[Place], most: int
) -> Iterator[tuple[int, list[str], list[bytes | None]]]:
    """(first position, texts, keys) of places in order, with holes, `most` at a time."""
    first = 0
    texts: list[str] = []
    keys: list[bytes | None] = []
    for place in places:
        if texts and place.position - first >= most:
            yield first, texts, keys
            texts, keys = [], []
        first = first if texts else place.position
        hole = place.position - first - len(texts)
        texts += [""] * hole + [place.text]
        keys += [None] * hole + [place.key]
    if texts:
        yield first, texts, keys


def places_of(row: Row[Any]) -> list[Place]:
    """The items of a row of `pages`, in order."""
    keys = keys_of(row)
    lines = row.texts.split("\n")
    return [
        Place(position, text, key)
        for position, (text, key) in enumerate(zip(lines, keys, strict=True), row.first)
        if text
    ]


def keys_of(row: Row[Any]) -> list[bytes | None]:
    """The keys of a row of `pages`, place by place."""
    return [None if key == NO_KEY else key for key in cut_keys(bytes(row.keys))]


def cut_keys(packed: bytes) -> Iterator[bytes]:
    """Keys that stand behind each other, one by one."""
    return (packed[start : start + KEY_BYTES] for start in range(0, len(packed), KEY_BYTES))


def merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same in stretches that have no page in common."""
    found: list[Stretch] = []
    for one in sorted(stretches):
        before = found[-1] if found else None
        if before and before[0] == one[0] and one[1] - before[2] < PLACES_OF_A_PAGE:
            found[-1] = (*before[:2], max(before[2], one[2]))
        else:
            found.append(one)
    return found
