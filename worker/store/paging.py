"""How pages are written and read: the items of a job, up to a thousand places a row.

Whoever looks for a position looks at the pages that begin within a page's
length before it: none is longer.

A row an item, with an index by key, was what a million items cost most: half
of all of PostgreSQL's time, and ten times the bytes in its log.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, select

from worker.store.packing import (
    NO_TEXTS,
    Keys,
    Place,
    Stretch,
    Texts,
    frames,
    keys_of,
    merged,
    places_of,
    row_of,
    rows_of,
)
from worker.store.tables import PLACES_OF_A_PAGE, pages, strays
from worker.store.transaction import Tx

#: Pages read at once, where nobody says how many.
MOST_PAGES = 64
#: Positions that one statement names.
NAMES_AT_ONCE = 500


def insert_rows(tx: Tx, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of `rows_of`."""
    if rows:
        tx.dialect.insert_rows(tx.connection, pages, rows)


def insert_places(tx: Tx, job: int, places: Sequence[Place]) -> None:
    """Insert items by position, whatever lies between them."""
    framed = frames(places, PLACES_OF_A_PAGE)
    insert_rows(tx, [row for frame in framed for row in rows_of(job, *frame)])


def overlapping(job: int, first: int, last: int) -> ColumnElement[bool]:
    """The pages of a job that hold places of a stretch."""
    begins = pages.c.first.between(first - PLACES_OF_A_PAGE + 1, last)
    return and_(pages.c.job == job, begins, pages.c.last >= first)


def texts_of(tx: Tx, stretches: Iterable[Stretch]) -> Mapping[int, Texts]:
    """The texts of all pages that hold places of some stretches, by job."""
    apart = merged(stretches)
    read = tx.dialect.texts_of(tx.connection, apart) if apart else ()
    by_job = groupby(sorted(read, key=itemgetter(0, 1)), key=itemgetter(0))
    return {job: Texts((first, texts) for _, first, texts in some) for job, some in by_job}


def keys_of_stretches(tx: Tx, stretches: Iterable[Stretch]) -> Mapping[int, Keys]:
    """The keys of all pages that hold places of some stretches, by job."""
    found: dict[int, Keys] = defaultdict(Keys)
    known = select(pages.c.first, pages.c["keys"]).order_by(pages.c.first)
    for job, first, last in merged(stretches):
        for begin, packed in tx.execute(known.where(overlapping(job, first, last))):
            found[job].add(begin, bytes(packed))
    return found


def rows_between(tx: Tx, job: int, first: int, last: int) -> Sequence[Row[Any]]:
    """Whole rows, in order."""
    chosen = select(pages).where(overlapping(job, first, last)).order_by(pages.c.first)
    rows: Sequence[Row[Any]] = tx.execute(chosen).all()
    return rows


def rows_of_stretches(tx: Tx, stretches: Iterable[Stretch]) -> Iterator[Row[Any]]:
    """Whole rows that hold places of some stretches, each once, in order."""
    for job, first, last in merged(stretches):
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


def reach(tx: Tx, job: int, after: int, count: int) -> int | None:
    """The last position of so many pages beyond a position; None where there is none."""
    rows = rows_beyond(tx, job, after, count, pages.c.last)
    return int(rows[-1].last) if rows else None


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
