"""How later ones of equal keys are found and dropped."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, select

from worker.item import rank_of
from worker.store import printing
from worker.store.packing import Place, places_of
from worker.store.paging import rows_between, take_out
from worker.store.printing import PRINT_BYTES, ROWS_AT_ONCE, cut, drop_each, part_of
from worker.store.tables import chunks, prints
from worker.store.transaction import Tx

#: Items dropped in one transaction, about, so that no lock is held for long.
STRIDE = 10_000
#: Prints that are compared with each other at once, about.
AT_ONCE = 20_000
#: Doubled prints that are looked into in one transaction: they are held in memory.
MOST_DOUBLED = 200_000


@dataclass(slots=True)
class _Doubled:
    """Prints that a job has more than once."""

    prints: set[bytes] = field(default_factory=set)
    #: The first and last positions of what landed together and holds some of them.
    stretches: set[tuple[int, int]] = field(default_factory=set)
    #: Whether there are no others.
    is_all: bool = True


def drop_some(tx: Tx, seq: int) -> bool:
    """Drop later ones of equal keys, a stride of them; True when none is left."""
    if _ascend(tx, seq):
        return True
    doubled = _doubled(tx, seq)
    seen: set[bytes] = set()
    dropped = 0
    for stretch in sorted(doubled.stretches):
        dropped += _drop_within(tx, seq, stretch, doubled.prints, seen)
        if dropped >= STRIDE:
            return False
    # Different keys of one print are doubled too, and none of them is dropped.
    return doubled.is_all or not dropped


def _ascend(tx: Tx, seq: int) -> bool:
    """Whether a job came in chunks, and every key is higher than all before it."""
    ends = select(chunks.c.lowest, chunks.c.highest).where(chunks.c.job == seq)
    rows = tx.execute(ends.order_by(chunks.c.number)).all()
    if not rows or any(row.lowest is None for row in rows):
        return False
    return all(rank_of(before.highest) < rank_of(after.lowest) for before, after in pairwise(rows))


def _doubled(tx: Tx, seq: int) -> _Doubled:
    """Prints that stand twice, as many as are looked into in one go."""
    doubled = _Doubled()
    chosen = select(prints).where(printing.of_job(seq)).order_by(prints.c.part, prints.c.first)
    rows = tx.execute(chosen.execution_options(yield_per=ROWS_AT_ONCE))
    for _, some in groupby(rows, key=attrgetter("part")):
        _note_doubled(list(some), doubled)
        if len(doubled.prints) > MOST_DOUBLED:
            doubled.is_all = False
            break
    rows.close()
    return doubled


def _note_doubled(rows: Sequence[Row[Any]], doubled: _Doubled) -> None:
    """Note what of one part stands twice."""
    read = array("Q")
    for row in rows:
        read.frombytes(bytes(row.prints))
    if are_distinct(read):
        return
    counts = Counter(one for row in rows for one in cut(row.prints))
    some = {one for one, count in counts.items() if count > 1}
    doubled.prints |= some
    doubled.stretches |= {
        (row.first, row.last) for row in rows if not some.isdisjoint(cut(row.prints))
    }


def are_distinct(read: "array[int]") -> bool:
    """Whether no print of a part stands twice; of a large job's, a share at a time is in memory."""
    shares = 1 + len(read) // AT_ONCE
    if shares == 1:
        return len(set(read)) == len(read)
    distinct = (len({one for one in read if one % shares == share}) for share in range(shares))
    return sum(distinct) == len(read)


def _drop_within(
    tx: Tx, seq: int, stretch: tuple[int, int], doubled: set[bytes], seen: set[bytes]
) -> int:
    """Drop what was seen before from what landed together; how many."""
    gone: list[Place] = []
    for row in rows_between(tx, seq, *stretch):
        own = [place for place in places_of(row) if stretch[0] <= place.position <= stretch[1]]
        later = [place for place in own if _is_later(place, doubled, seen)]
        if later:
            # What was kept at the door has a key, and an outcome already.
            take_out(tx, row, [place.position for place in later])
            gone += later
    if gone:
        _drop_prints(tx, seq, stretch[0], gone)
    return len(gone)


def _is_later(place: Place, doubled: set[bytes], seen: set[bytes]) -> bool:
    """Whether an item's key was seen before; it is from now on."""
    if place.key is None or place.key[:PRINT_BYTES] not in doubled:
        return False
    is_later = place.key in seen
    seen.add(place.key)
    return is_later


def _drop_prints(tx: Tx, seq: int, first: int, gone: Sequence[Place]) -> None:
    """Drop the prints of what was taken out of what landed together."""
    keys = sorted(place.key for place in gone if place.key is not None)
    for part, some in groupby(keys, key=part_of):
        own = (prints.c.part == part, prints.c.job == seq, prints.c.first == first)
        row = tx.execute(select(prints).where(*own)).one()
        drop_each(tx, row, Counter(key[:PRINT_BYTES] for key in some))


def counts(row: Row[Any], distinct: int) -> dict[str, int]:
    """The counts of a job of which so many items are distinct.

    What is copied from another job was not counted before, and has no duplicates.
    """
    is_copy = row.plan is not None or row.parent is not None
    given = distinct if is_copy else row.items + row.duplicates
    return {"items": distinct, "duplicates": given - distinct}
