"""How items become batches, batches calls, and a refused batch two."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from worker.batch import Claimed, Returned
from worker.item import Mark

#: A batch holds at most this many bytes of items, so that a claim is bounded.
MAX_BATCH_BYTES = 1024 * 1024


def cut(
    places: Iterable[tuple[int, int, bool]], *, max_items: int, max_bytes: int = MAX_BATCH_BYTES
) -> Iterator[tuple[int, int, int]]:
    """Cut places into ranges of (first position, last position, items).

    `places` are (position, bytes, is open) by position. Every place lies in
    one range; only open ones count towards `max_items`, since the others, such
    as those refused at the door, are never sent.

    >>> list(cut([(0, 1, True), (2, 1, True), (3, 1, True)], max_items=2))
    [(0, 2, 2), (3, 3, 1)]
    """
    first = last = items = open_items = size = 0
    for position, length, is_open in places:
        is_full = open_items == max_items if is_open else items >= 2 * max_items
        if items and (is_full or size + length > max_bytes):
            yield first, last, items
            items = open_items = size = 0
        if not items:
            first = position
        last = position
        items += 1
        open_items += is_open
        size += length
    if items:
        yield first, last, items


def cut_evenly(first: int, count: int, *, max_items: int) -> Iterator[tuple[int, int, int]]:
    """What `cut` makes of so many open places without a gap that are small together.

    >>> list(cut_evenly(7, 3, max_items=2))
    [(7, 8, 2), (9, 9, 1)]
    """
    end = first + count
    for start in range(first, end, max_items):
        stop = min(start + max_items, end)
        yield start, stop - 1, stop - start


def fill_calls(claimed: Sequence[Claimed], *, max_items: int) -> Iterator[list[Claimed]]:
    """Put batches together into calls of at most so many items each.

    A batch that may have no more than so much company gets no more, and one
    that is larger than a call goes alone: the executor sends it in parts.
    """
    call: list[Claimed] = []
    size = 0
    # Those with a limit on their company stand together, so that they do not
    # shrink the calls of the others.
    ordered = sorted(claimed, key=lambda one: one.batch.company or 0)
    for company, group in groupby(ordered, key=lambda one: one.batch.company):
        for one in group:
            if call and (size + len(one.positions) > max_items or len(call) == company):
                yield call
                call, size = [], 0
            call.append(one)
            size += len(one.positions)
        if call:
            yield call
            call, size = [], 0


def halve(returned: Returned, open_positions: Sequence[int]) -> Returned:
    """Split at the middle of the open positions; halves rejoin to the whole."""
    middle = sorted(open_positions)[len(open_positions) // 2]
    return replace(returned, split_at=middle)


def can_split(marks: Iterable[Mark]) -> bool:
    """Whether more than one position is open."""
    return sum(not mark.is_final for mark in marks) > 1
