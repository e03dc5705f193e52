"""A batch: a range of positions of one job, claimed, judged and split whole."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from api_adapters.base import Item, Verdict
from worker.item import Mark, OpenItem
from worker.job import JobId


class BatchState(StrEnum):
    """Where a batch is in its life."""

    READY = "ready"  #: waiting for a worker, perhaps until its moment
    LEASED = "leased"  #: a worker has it until the lease runs out
    DONE = "done"  #: every item in its range has its outcome


#: Every legal move. A state that is no key here is final. A split is no state:
#: the row keeps the left part, and a new ready row takes the right.
MOVES = {
    # ready -> leased: a worker claims it.
    # ready -> done: the job ends; items without doubt are skipped, items in
    # doubt unknown.
    BatchState.READY: {BatchState.LEASED, BatchState.DONE},
    # leased -> done: every item has a final verdict.
    # leased -> ready: something is left to do, or the lease ran out.
    BatchState.LEASED: {BatchState.DONE, BatchState.READY},
}

#: Nothing is known yet.
OPEN = Mark()

#: Strays of a range by verdict; None counts those still open.
StrayCounts = Mapping[Verdict | None, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """A range from `first` to `last`, with what holds for all of it but its strays."""

    job: JobId
    #: The job's short number in the store.
    seq: int
    first: int
    last: int
    #: How many items lie in it: duplicates leave holes.
    items: int
    mark: Mark = OPEN
    #: Passing faults so far; limited by the target's `max_attempts`.
    failures: int = 0
    #: The most batches that its next call may hold, or None for no limit.
    company: int | None = None
    #: How long the backend has told it to wait so far.
    told_to_wait: timedelta = timedelta()
    strays: StrayCounts = field(default_factory=dict)

    @property
    def open_items(self) -> int:
        """How many of its items have no outcome yet."""
        outside = 0 if self.mark.is_final else self.items - sum(self.strays.values())
        return outside + self.strays.get(None, 0)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A batch that a worker has, with the items of it that are still open.

    Positions and values stand in two columns, place by place: an object an item
    takes longer to make than all else that is done for one.
    """

    batch: Batch
    positions: Sequence[int]
    values: Sequence[Item]
    #: What is known of open items that have a row of their own in the store, by position.
    marks: Mapping[int, Mark] = field(default_factory=dict)
    #: The positions whose key is protected: they are never sent.
    protected: frozenset[int] = frozenset()

    @property
    def items(self) -> tuple[OpenItem, ...]:
        """The open items, one by one."""
        own, marks = self.batch.mark, self.marks
        places = zip(self.positions, self.values, strict=True)
        return tuple(OpenItem(at, value, marks.get(at, own)) for at, value in places)


@dataclass(frozen=True, slots=True)
class Returned:
    """What a worker gives back: the batch as it is now, and its changed strays."""

    batch: Batch
    strays: Mapping[int, Mark] = field(default_factory=dict)
    #: How long the batch rests before it may be claimed again.
    rest: timedelta = timedelta()
    #: Where the right part begins, when the batch is split.
    split_at: int | None = None

    @property
    def state(self) -> BatchState:
        """Where the batch stands after it was given back."""
        return BatchState.READY if self.batch.open_items else BatchState.DONE


def give_back(claimed: Claimed, marks: Mapping[int, Mark]) -> Returned:
    """The batch with new marks: the commonest is the range's, all others strays.

    `marks` holds the marks of all positions that were open. A range that has
    its verdict keeps it: then only its open strays are written.
    """
    batch = claimed.batch
    if not claimed.marks and (one := _the_same(marks)) is not None:
        return Returned(replace(batch, mark=one))
    changed = {item.position for item in claimed.items if marks[item.position] != item.mark}
    if batch.mark.is_final:
        strays = {position: marks[position] for position in changed}
        return Returned(replace(batch, strays=_recount(claimed, strays)), strays)
    plain = [marks[at] for at in claimed.positions if at not in claimed.marks]
    mark = Counter(plain).most_common(1)[0][0] if plain else batch.mark
    strays = {
        position: one
        for position, one in marks.items()
        if (position in changed if position in claimed.marks else one != mark)
    }
    return Returned(replace(batch, mark=mark, strays=_recount(claimed, strays)), strays)


def _the_same(marks: Mapping[int, Mark]) -> Mark | None:
    """The mark that all positions share, as they do after most calls; else None.

    Told by identity: comparing and hashing a thousand marks takes longer than
    all else that is done for a batch.
    """
    first = next(iter(marks.values()), None)
    return first if all(mark is first for mark in marks.values()) else None


def _recount(claimed: Claimed, strays: Mapping[int, Mark]) -> dict[Verdict | None, int]:
    """The counts of a range's strays once these are written."""
    counts = Counter(claimed.batch.strays)
    for position, mark in strays.items():
        if position in claimed.marks:
            counts[None] -= 1
        counts[mark.verdict] += 1
    return {verdict: count for verdict, count in counts.items() if count}
