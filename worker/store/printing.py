"""Prints: how an item is found by its key among millions, without a row an item.

The print of a key is its first eight bytes. The prints of what landed together
stand in 64 rows, by the first six bits, so that a look reads one row of every
ten thousand items; the pages then tell whether it is the key. Two keys of one
print are no more likely than a broken disk, and are told apart all the same.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, select, update

from worker.store.packing import KEY_BYTES, Place, frames, keys_of, places_of
from worker.store.paging import overlapping
from worker.store.tables import pages, prints
from worker.store.transaction import Tx

PARTS = 64
PRINT_BYTES = 8
#: Places whose prints stand together.
PLACES = 10_000
#: Rows of prints read at once.
ROWS_AT_ONCE = 200
#: Keys of one part that are looked for by the database; more are by us.
FEW_KEYS = 8


def part_of(key: bytes) -> int:
    """The part of a key's print."""
    return key[0] >> 2


def rows_of(job: int, first: int, keys: Sequence[bytes | None]) -> Iterator[tuple[Any, ...]]:
    """The rows of `prints` for the keys of places from `first` on."""
    for start in range(0, len(keys), PLACES):
        some = keys[start : start + PLACES]
        begin, end = first + start, first + start + len(some) - 1
        of_parts: list[list[bytes]] = [[] for _ in range(PARTS)]
        # By the first byte: to ask for the part takes as long as all else of a key.
        add = [of_parts[byte >> 2].append for byte in range(256)]
        for key in filter(None, some):
            add[key[0]](key)
        for part, its_keys in enumerate(of_parts):
            if its_keys:
                yield (part, job, begin, end, _prints(its_keys))


def _prints(keys: Sequence[bytes]) -> bytes:
    """The prints of keys, joined: every second eight bytes of them."""
    return memoryview(b"".join(keys)).cast("Q")[:: KEY_BYTES // PRINT_BYTES].tobytes()


def insert_rows(tx: Tx, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of `rows_of`."""
    if rows:
        tx.dialect.insert_rows(tx.connection, prints, rows)


def insert_places(tx: Tx, job: int, places: Sequence[Place]) -> None:
    """Insert the prints of items by position, whatever lies between them."""
    framed = frames(places, PLACES)
    insert_rows(tx, [row for first, _, keys in framed for row in rows_of(job, first, keys)])


def of_job(job: int) -> ColumnElement[bool]:
    """All rows of a job: the key begins with the part."""
    return and_(prints.c.part.in_(range(PARTS)), prints.c.job == job)


# -- looking for a key ----------------------------------------------------------


def found(tx: Tx, key: bytes) -> Iterator[tuple[int, Place]]:
    """(job, place) of every item with a key, newest job first."""
    known = select(prints.c.job, prints.c.first, prints.c.last).where(_may_hold(tx, key))
    for row in tx.execute(known.order_by(prints.c.job.desc())).all():
        yield from _in_pages(tx, row, {key})


def found_in(tx: Tx, job: int, key: bytes) -> list[Place]:
    """The places of one job that hold an item with a key."""
    known = select(prints.c.job, prints.c.first, prints.c.last)
    rows = tx.execute(known.where(_may_hold(tx, key), prints.c.job == job)).all()
    return [place for row in rows for _, place in _in_pages(tx, row, {key})]


def found_of(tx: Tx, keys: Collection[bytes]) -> Iterator[tuple[int, Place]]:
    """(job, place) of every item with one of many keys."""
    for _, some in groupby(sorted(keys), key=part_of):
        wanted = list(some)
        if len(wanted) <= FEW_KEYS:
            for key in wanted:
                yield from found(tx, key)
            continue
        sought = {key[:PRINT_BYTES] for key in wanted}
        of_part = select(prints).where(prints.c.part == part_of(wanted[0]))
        rows = tx.execute(of_part.execution_options(yield_per=ROWS_AT_ONCE))
        held = [row for row in rows if not sought.isdisjoint(cut(row.prints))]
        for row in held:
            yield from _in_pages(tx, row, frozenset(wanted))


def _may_hold(tx: Tx, key: bytes) -> ColumnElement[bool]:
    """The rows in which the print of a key stands, or seems to."""
    inside = tx.dialect.is_inside(prints.c.prints, key[:PRINT_BYTES])
    return and_(prints.c.part == part_of(key), inside)


def _in_pages(tx: Tx, row: Row[Any], keys: Collection[bytes]) -> Iterator[tuple[int, Place]]:
    """The places of some keys among those whose prints a row holds."""
    chosen = select(pages).where(overlapping(row.job, row.first, row.last))
    if len(keys) == 1:
        # All else of what landed together stays where it is.
        chosen = chosen.where(tx.dialect.is_inside(pages.c["keys"], next(iter(keys))))
    for page in tx.execute(chosen.order_by(pages.c.first)).all():
        for place in places_of(page):
            if place.key in keys and row.first <= place.position <= row.last:
                yield row.job, place


def cut(joined: bytes) -> Iterator[bytes]:
    """The prints of a row."""
    whole = bytes(joined)
    return (whole[at : at + PRINT_BYTES] for at in range(0, len(whole), PRINT_BYTES))


# -- dropping -------------------------------------------------------------------


def drop(tx: Tx, job: int, key: bytes) -> None:
    """Drop a key's print wherever its job holds no item of that print any more."""
    for row in tx.execute(select(prints).where(_may_hold(tx, key), prints.c.job == job)).all():
        if not any(_printed(page, key) for page in _pages_of(tx, row)):
            drop_each(tx, row, Counter({key[:PRINT_BYTES]: len(row.prints)}))


def drop_each(tx: Tx, row: Row[Any], gone: Counter[bytes]) -> None:
    """Drop so many of each print from a row."""
    left = []
    for one in cut(row.prints):
        if gone[one]:
            gone[one] -= 1
        else:
            left.append(one)
    own = and_(prints.c.part == row.part, prints.c.job == row.job, prints.c.first == row.first)
    if left:
        tx.execute(update(prints).where(own).values(prints=b"".join(left)))
    else:
        tx.execute(delete(prints).where(own))


def _pages_of(tx: Tx, row: Row[Any]) -> Sequence[Row[Any]]:
    """The pages whose prints a row holds."""
    chosen = select(pages).where(overlapping(row.job, row.first, row.last))
    rows: Sequence[Row[Any]] = tx.execute(chosen.order_by(pages.c.first)).all()
    return rows


def _printed(page: Row[Any], key: bytes) -> bool:
    """Whether a page has a key of this one's print."""
    print_ = key[:PRINT_BYTES]
    return any(one is not None and one.startswith(print_) for one in keys_of(page))
