"""Pages: the items of a job, up to a thousand places a row.

A place is a line of the page's text, empty where a duplicate was left out, and
16 bytes of its keys, zeros where an item has none. Pages never overlap and are
never longer than `PLACES_OF_A_PAGE`, so that whoever looks for a position looks
at the first positions of as many places before it.

A row an item, with an index by key, was what a million items cost most: half
of all of PostgreSQL's time, and ten times the bytes in its log.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, delete, func, select

from worker.store.tables import PLACES_OF_A_PAGE, pages, strays
from worker.store.transaction import Tx

#: Bytes of texts after which a page of large items is parted.
PAGE_BYTES = 256 * 1024
#: Pages read at once, where nobody says how many.
MOST_PAGES = 64
#: Positions that one statement names.
NAMES_AT_ONCE = 500
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
    if stop - start == 1 or sum(map(len, texts[start:stop])) <= PAGE_BYTES:
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


def insert_rows(tx: Tx, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of `rows_of`."""
    if rows:
        tx.dialect.insert_rows(tx.connection, pages, rows)


def insert_places(tx: Tx, job: int, places: Sequence[Place]) -> None:
    """Insert items by position, whatever lies between them."""
    framed = frames(places, PLACES_OF_A_PAGE)
    insert_rows(tx, [row for frame in framed for row in rows_of(job, *frame)])


def frames(
    places: Iterable[Place], most: int
) -> Iterator[tuple[int, list[str], list[bytes | None]]]:
    """(first position, texts, keys) of places in order, with holes, `most` at a time."""
    first, texts, keys = 0, [], []  # type: int, list[str], list[bytes | None]
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


def overlapping(job: int, first: int, last: int) -> ColumnElement[bool]:
    """The pages of a job that hold places of a stretch."""
    begins = pages.c.first.between(first - PLACES_OF_A_PAGE + 1, last)
    return and_(pages.c.job == job, begins, pages.c.last >= first)


def texts_of(tx: Tx, stretches: Iterable[Stretch]) -> Mapping[int, Texts]:
    """The texts of all pages that hold places of some stretches, by job."""
    merged = _merged(stretches)
    read = tx.dialect.texts_of(tx.connection, merged) if merged else ()
    by_job = groupby(sorted(read, key=itemgetter(0, 1)), key=itemgetter(0))
    return {job: Texts((first, texts) for _, first, texts in some) for job, some in by_job}


def keys_of_stretches(tx: Tx, stretches: Iterable[Stretch]) -> Mapping[int, Keys]:
    """The keys of all pages that hold places of some stretches, by job."""
    found: dict[int, Keys] = defaultdict(Keys)
    known = select(pages.c.first, pages.c["keys"]).order_by(pages.c.first)
    for job, first, last in _merged(stretches):
        for begin, packed in tx.execute(known.where(overlapping(job, first, last))):
            found[job].add(begin, bytes(packed))
    return found


def _merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same in stretches that have no page in common."""
    merged: list[Stretch] = []
    for one in sorted(stretches):
        before = merged[-1] if merged else None
        if before and before[0] == one[0] and one[1] - before[2] < PLACES_OF_A_PAGE:
            merged[-1] = (*before[:2], max(before[2], one[2]))
        else:
            merged.append(one)
    return merged


def rows_between(tx: Tx, job: int, first: int, last: int) -> Sequence[Row[Any]]:
    """Whole rows, in order."""
    chosen = select(pages).where(overlapping(job, first, last)).order_by(pages.c.first)
    rows: Sequence[Row[Any]] = tx.execute(chosen).all()
    return rows


def rows_of_stretches(tx: Tx, stretches: Iterable[Stretch]) -> Iterator[Row[Any]]:
    """Whole rows that hold places of some stretches, each once, in order."""
    for job, first, last in _merged(stretches):
        yield from rows_between(tx, job, first, last)


def rows_beyond(tx: Tx, job: int, after: int, most: int, *columns: Any) -> Sequence[Row[Any]]:
    """At most so many rows that hold places beyond a position, in order."""
    beyond = and_(
        pages.c.job == job, pages.c.first > after - PLACES_OF_A_PAGE, pages.c.last > after
    )
    chosen = select(*(columns or (pages,))).where(beyond).order_by(pages.c.first).limit(most)
    rows: Sequence[Row[Any]] = tx.execute(chosen).all()
    return rows


def items_beyond(tx: Tx, job: int, after: int, limit: int) -> Iterator[Place]:
    """At most so many items beyond a position, in order; none at the end."""
    left, most = limit, 1 + limit // PLACES_OF_A_PAGE
    while left and (rows := rows_beyond(tx, job, after, most)):
        # Pages of small chunks hold few items each.
        most = min(2 * most, MOST_PAGES)
        for row in rows:
            for place in places_of(row):
                if place.position > after and left:
                    left -= 1
                    yield place
        after = rows[-1].last


def first_beyond(tx: Tx, job: int, after: int) -> int | None:
    """The position of the first item beyond one."""
    return next((place.position for place in items_beyond(tx, job, after, 1)), None)


def last_of(tx: Tx, job: int) -> int | None:
    """The position of a job's last item."""
    chosen = select(pages.c.last).where(pages.c.job == job)
    row = tx.first(chosen.order_by(pages.c.first.desc()).limit(1))
    return None if row is None else int(row.last)


def is_more(tx: Tx, job: int, after: int) -> bool:
    """Whether a job has items beyond a position."""
    last = last_of(tx, job)
    return last is not None and last > after


def count_of(tx: Tx, job: int) -> int:
    """How many items a job holds."""
    total = select(func.coalesce(func.sum(pages.c["items"]), 0)).where(pages.c.job == job)
    return int(tx.execute(total).scalar_one())


def count_between(tx: Tx, job: int, first: int, last: int) -> int:
    """How many items lie in a stretch."""
    chosen = select(pages.c.first, pages.c.last, pages.c["items"])
    count, uneven = 0, []
    for row in tx.execute(chosen.where(overlapping(job, first, last))):
        inside = min(row.last, last) - max(row.first, first) + 1
        if row.items == row.last - row.first + 1:
            count += inside
        elif inside == row.last - row.first + 1:
            count += row.items
        else:
            uneven.append((job, max(row.first, first), min(row.last, last)))
    texts = texts_of(tx, uneven).get(job, NO_TEXTS)
    return count + sum(len(texts.between(begin, end)[0]) for _, begin, end in uneven)


def take_out(tx: Tx, row: Row[Any], positions: Sequence[int]) -> None:
    """Leave holes at some places of a page, whose strays go with them."""
    texts, keys = row.texts.split("\n"), keys_of(row)
    for position in positions:
        texts[position - row.first], keys[position - row.first] = "", None
    tx.execute(delete(pages).where(pages.c.job == row.job, pages.c.first == row.first))
    left = row_of(row.job, row.first, texts, keys)
    insert_rows(tx, [] if left is None else [left])
    for start in range(0, len(positions), NAMES_AT_ONCE):
        some = strays.c.position.in_(positions[start : start + NAMES_AT_ONCE])
        tx.execute(delete(strays).where(strays.c.job == row.job, some))


def drop_some(tx: Tx, job: int, limit: int) -> int:
    """Drop up to so many of a job's first items, with their strays; how many."""
    known = (pages.c.first, pages.c.last, pages.c["items"])
    dropped, edge = 0, -1
    for row in rows_beyond(tx, job, -1, 1 + limit // PLACES_OF_A_PAGE, *known):
        if dropped + row.items > limit:
            break
        dropped, edge = dropped + row.items, row.last
    if dropped:
        tx.execute(delete(strays).where(strays.c.job == job, strays.c.position <= edge))
        tx.execute(delete(pages).where(pages.c.job == job, pages.c.first <= edge))
        return dropped
    # The first page alone holds more than that.
    for row in rows_beyond(tx, job, -1, 1):
        some = [place.position for place in places_of(row)[:limit]]
        take_out(tx, row, some)
        return len(some)
    return 0
