"""What a transaction adds to a target's totals: counts that only grow, for whoever measures.

Of a target there are several rows, and a thread writes always the same one: of
one row alone all who record would wait for each other's commit. A transaction
takes its rows last of all and in one order, so nobody who holds one waits for
another lock.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from threading import get_native_id
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, select

from api_adapters.base import Verdict
from worker.batch import BatchState, Returned
from worker.call import Call, bucket_of
from worker.store.base import Totals
from worker.store.tables import (
    CALL_TOTALS,
    ITEM_TOTALS,
    LENGTH_TOTALS,
    STRAY_COLUMNS,
    STRAY_VERDICTS,
    STRAYED,
    batches,
    counts_of_strays,
    totals,
)

#: Rows of a target.
PARTS = 64

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Gains:
    """What one transaction has found to be added, by target and column."""

    by_target: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def decide(self, target: str, items: Mapping[Verdict, int]) -> None:
        """Items that have their verdict from now on."""
        gained = self.by_target[target]
        for verdict, count in items.items():
            gained[ITEM_TOTALS[verdict]] += count

    def open(self, target: str, count: int) -> None:
        """Batches that are ready or leased from now on; fewer where it is negative."""
        self.by_target[target]["open_batches"] += count

    def add_range(self, target: str, values: Mapping[str, Any]) -> None:
        """A new range of `batches`, with the strays that it has from the start."""
        self.open(target, int(values["state"] != BatchState.DONE.value))
        self.decide(target, {verdict: values[name] for verdict, name in STRAY_COLUMNS.items()})

    def call(self, target: str, calls: Iterable[Call]) -> None:
        """Calls that were made."""
        gained = self.by_target[target]
        for call in calls:
            gained[CALL_TOTALS[call.answer]] += 1
            if call.is_timed:
                gained[LENGTH_TOTALS[bucket_of(call.took)]] += 1
                gained["microseconds"] += call.took // _MICROSECOND

    def write(self, connection: Connection, insert: Callable[[Any], Any]) -> None:
        """Add it all, last of the transaction: one statement a target."""
        for target, gained in sorted(self.by_target.items()):
            named = {name: count for name, count in sorted(gained.items()) if count}
            if named:
                place = {"of_target": target, "of_part": get_native_id() % PARTS}
                connection.execute(_addition(insert, tuple(named)), {**place, **named})


@cache
def _addition(insert: Callable[[Any], Any], names: tuple[str, ...]) -> Any:
    """Insert a row of these counts, or add them to the one that is there."""
    new = insert(totals).values(
        target=bindparam("of_target"),
        part=bindparam("of_part"),
        **{name: bindparam(name) for name in names},
    )
    return new.on_conflict_do_update(
        index_elements=[totals.c.target, totals.c.part],
        set_={name: totals.c[name] + new.excluded[name] for name in names},
    )


def decided_by(row: Row[Any], one: Returned) -> Counter[Verdict]:
    """The items of a range that have their verdict only now; `row` is as it was before."""
    counts = dict(zip(STRAY_VERDICTS, counts_of_strays(row), strict=True))
    before = _tally(row.verdict, row.items, counts)
    # A verdict that stands is not overwritten.
    verdict = row.verdict or one.batch.mark.verdict
    after = _tally(verdict, one.batch.items, one.batch.strays)
    after.subtract(before)
    return after


def _tally(
    verdict: str | None, items: int, strays: Mapping[Verdict | None, int]
) -> Counter[Verdict]:
    """The decided items of one range."""
    tally = Counter({stray: count for stray, count in strays.items() if stray and count})
    if verdict is not None:
        tally[Verdict(verdict)] += items - sum(strays.values())
    return tally


def standing(execute: Callable[[Any], Any], seq: int, firsts: Sequence[int]) -> "Standing":
    """How some ranges of a job stand, counted."""
    sums = [func.sum(batches.c[name]).label(name) for name in STRAY_COLUMNS.values()]
    plain = func.sum(batches.c["items"] - STRAYED).label("plain")
    is_open = case((batches.c.state != BatchState.DONE.value, 1), else_=0)
    number = func.sum(is_open).label("is_open")
    found = execute(
        select(batches.c.verdict, plain, number, *sums)
        .where(batches.c.job == seq, batches.c.first.in_(firsts))
        .group_by(batches.c.verdict)
    )
    tally: Counter[Verdict] = Counter()
    open_batches = 0
    for row in found:
        open_batches += int(row.is_open)
        if row.verdict:
            tally[Verdict(row.verdict)] += int(row.plain)
        for verdict, name in STRAY_COLUMNS.items():
            tally[verdict] += int(getattr(row, name))
    return Standing(tally, open_batches)


@dataclass(frozen=True, slots=True)
class Standing:
    """The decided items of some ranges, and how many of these are open."""

    tally: Counter[Verdict]
    open_batches: int


def totals_of(rows: Iterable[Row[Any]]) -> Totals:
    """All rows of a target, added up."""
    summed: Counter[str] = Counter()
    for row in rows:
        summed.update({name: getattr(row, name) for name in _NAMES})
    return Totals(
        items={verdict: summed[name] for verdict, name in ITEM_TOTALS.items()},
        calls={answer: summed[name] for answer, name in CALL_TOTALS.items()},
        lengths=tuple(summed[name] for name in LENGTH_TOTALS),
        took=summed["microseconds"] * _MICROSECOND,
    )


_NAMES = (*ITEM_TOTALS.values(), *CALL_TOTALS.values(), *LENGTH_TOTALS, "microseconds")
