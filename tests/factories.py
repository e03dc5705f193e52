"""Things to test with: a clock that tests advance, jobs, chunks, batches, marks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

from api_adapters.base import Evidence, Item, Verdict
from worker.batch import Batch, Claimed
from worker.item import Landed, Mark, digest_of_key, to_json
from worker.job import JobId, NewJob
from worker.store.base import Appetite, Chunk

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


class Clock:
    """A clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The moment it shows."""
        return self.moment

    def advance(self, length: timedelta = SECOND) -> datetime:
        """Let time pass."""
        self.moment += length
        return self.moment


class Seconds:
    """A clock of our own, in seconds, that stands still until a test moves it on."""

    now = 100.0

    def __call__(self) -> float:
        """The moment it shows."""
        return self.now


def some_id() -> JobId:
    """An id that no other job has."""
    return JobId(str(uuid4()))


def new_job(**changes: Any) -> NewJob:
    """A job that is asked for."""
    return replace(NewJob(id=some_id(), target="crm", fingerprint="f1"), **changes)


def landed(position: int, item: Item, *, target: str = "crm") -> Landed:
    """An item that the adapter takes."""
    return Landed(position, to_json(item), digest_of_key(target, str(item)))


def refused_at_the_door(position: int, item: Item) -> Landed:
    """An item that the adapter refuses by its form."""
    why = Mark(Verdict.REJECTED, Evidence.ITEM, "invalid_item", "no id")
    return Landed(position, to_json(item), None, why)


def chunk_of(
    items: Iterable[Item | Landed], *, number: int = 0, start: int = 0, given: int | None = None
) -> Chunk:
    """Items that land together, from a position on."""
    rows = tuple(
        one if isinstance(one, Landed) else landed(start + index, one)
        for index, one in enumerate(items)
    )
    first = rows[0].position if rows else start
    texts, digests = [""] * _places(rows), [None] * _places(rows)  # type: list[str], list[bytes | None]
    for row in rows:
        texts[row.position - first], digests[row.position - first] = row.text, row.key
    return Chunk(
        number=number,
        first=first,
        texts=texts,
        keys=digests,
        refusals={row.position: row.refusal for row in rows if row.refusal is not None},
        count=len(rows),
        given=len(rows) if given is None else given,
        size=sum(map(len, texts)),
        digest=sha256("\n".join(texts).encode()).hexdigest(),
    )


def _places(rows: Sequence[Landed]) -> int:
    """How many places lie between the first and the last."""
    return rows[-1].position - rows[0].position + 1 if rows else 0


def keys(count: int, *, prefix: str = "k") -> list[Item]:
    """So many different items."""
    return [f"{prefix}{index}" for index in range(count)]


def appetite(
    *, call_items: int = 10, calls: int = 1, places: int = 4, is_slow: bool = False
) -> Appetite:
    """How much one claim may take."""
    return Appetite(call_items, calls=calls, places=places, least=calls, is_slow=is_slow)


def make_batch(first: int = 0, last: int = 3, **changes: Any) -> Batch:
    """A range without holes."""
    batch = Batch(JobId("job"), 1, first, last, last - first + 1)
    return replace(batch, **changes)


def make_claimed(
    count: int = 4, *, marks: Mapping[int, Mark] | None = None, **changes: Any
) -> Claimed:
    """A claimed range of so many items; those in `marks` are open strays."""
    marks = marks or {}
    strays = {None: len(marks)} if marks else {}
    batch = make_batch(0, count - 1, **{"strays": strays, **changes})
    return Claimed(batch, range(count), [f"k{position}" for position in range(count)], marks)


def final(verdict: Verdict = Verdict.DELETED, **changes: Any) -> Mark:
    """An outcome that the backend named."""
    return replace(Mark(verdict, Evidence.ITEM, calls=1), **changes)


def all_marked(claimed: Claimed, mark: Mark) -> dict[int, Mark]:
    """One mark for all open items."""
    return dict.fromkeys(claimed.positions, mark)


def positions(claimed: Sequence[Claimed]) -> list[int]:
    """The positions of all open items of a claim."""
    return [position for one in claimed for position in one.positions]
