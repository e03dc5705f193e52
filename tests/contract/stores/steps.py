"""The ways of a job through a store, in few words, and the sum that always holds."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from api_adapters.base import Item, Verdict
from tests.factories import MINUTE, all_marked, appetite, chunk_of, final, keys, new_job
from worker.batch import Claimed, Returned, give_back
from worker.errors import RefusedRequest
from worker.item import Landed, Mark, Outcome
from worker.job import JobId, JobStatus
from worker.store.base import Appetite, Busy, Claim, Cut, Noted, Store


class Steps:
    """Drives one store as the actors do."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def submitted(
        self, items: Iterable[Item | Landed] | int = 4, *, given: int | None = None, **changes: Any
    ) -> JobId:
        """A job that is to be planned."""
        items = keys(items) if isinstance(items, int) else items
        return self.store.submit(new_job(**changes), chunk_of(items, given=given)).id

    def cut(self, job: JobId, *, size: int = 10) -> None:
        """Cut all places of a job into ranges of so many items."""
        places = self.store.places(job, after=self.store.last_cut(job), limit=100_000)
        parts = [places[start : start + size] for start in range(0, len(places), size)]
        self.store.add_batches(job, [Cut(p[0][0], p[-1][0], len(p)) for p in parts])

    def planned(self, job: JobId, *, size: int = 10) -> JobId:
        """Cut and start a job."""
        self.store.drop_duplicates(job)
        self.cut(job, size=size)
        assert self.store.start(job)
        return job

    def running(
        self, items: Iterable[Item | Landed] | int = 4, *, size: int = 10, **changes: Any
    ) -> JobId:
        """A job whose batches may be claimed."""
        return self.planned(self.submitted(items, **changes), size=size)

    def try_claim(
        self,
        wants: Appetite | None = None,
        *,
        target: str = "crm",
        fingerprint: str = "f1",
        lasting: timedelta = MINUTE,
        answers_bell: bool = True,
    ) -> Claim | Busy:
        """Claim, as a worker that came because of the bell, whatever comes of it."""
        if answers_bell:
            self.store.answer_bell(target)
        return self.store.claim(
            target,
            fingerprint=fingerprint,
            holder="w1",
            lasting=lasting,
            appetite=lambda _: wants or appetite(),
        )

    def claim(self, wants: Appetite | None = None, **named: Any) -> Claim:
        """Claim something."""
        claim = self.try_claim(wants, **named)
        assert isinstance(claim, Claim)
        return claim

    def record(self, claim: Claim, verdict: Verdict = Verdict.DELETED) -> Noted:
        """Record one verdict for all that a claim took."""
        return self.record_marks(claim, [all_marked(one, final(verdict)) for one in claim.batches])

    def record_marks(self, claim: Claim, marks: Sequence[Mapping[int, Mark]]) -> Noted:
        """Record these marks of each batch of a claim; others stay as they are."""
        returned = [_returned(*pair) for pair in zip(claim.batches, marks, strict=True)]
        return self.store.record(claim.lease, returned)

    def give_back_unsent(self, claim: Claim) -> Noted:
        """Give all of a claim back as it was."""
        return self.record_marks(claim, [{} for _ in claim.batches])

    def work_off(self, job: JobId) -> JobStatus:
        """Delete what is left of a job, and settle it."""
        while isinstance(claim := self.try_claim(appetite(call_items=1000)), Claim):
            self.record(claim)
        status = self.store.settle(job)
        assert status is not None
        return status

    def end(self, job: JobId) -> JobStatus:
        """End the ready ranges of a job that ends early, and settle it."""
        while self.store.end_ready(job, limit=2):
            self.adds_up(job)
        status = self.store.settle(job)
        assert status is not None
        return status

    def outcomes(self, job: JobId, verdict: Verdict | None = None) -> list[Outcome]:
        """All decided items, page by page."""
        found: list[Outcome] = []
        after: int | None = -1
        while after is not None:
            page = self.store.results(job, verdict=verdict, after=after, limit=3, size=10_000)
            found += page.rows
            after = page.next
        return found

    def verdicts(self, job: JobId) -> dict[int, str]:
        """The verdict of each decided position."""
        return {
            one.position: one.mark.verdict.value
            for one in self.outcomes(job)
            if one.mark.verdict is not None
        }

    def adds_up(self, job: JobId) -> None:
        """The sum that holds after every step."""
        adds_up(self.store, job)


def adds_up(store: Store, job: JobId) -> None:
    """Results, tally, status and items of a job agree, each item counted once."""
    status = store.status(job)
    outcomes = Steps(store).outcomes(job)
    counted = Counter(one.mark.verdict for one in outcomes)
    tally = {verdict: count for verdict, count in status.tally.items() if count}
    assert tally == counted
    assert tally == {verdict: count for verdict, count in store.tally(job).items() if count}
    seen = [one.position for one in outcomes]
    assert seen == sorted(set(seen))
    assert 0 <= status.pending == status.job.items - len(seen)
    if status.job.is_final:
        assert status.pending == 0
        assert (status.batches["ready"], status.batches["leased"]) == (0, 0)


@contextmanager
def refusal(code: str) -> Iterator[None]:
    """What follows is refused with this code."""
    with pytest.raises(RefusedRequest) as refused:
        yield
    assert refused.value.code == code


def _returned(claimed: Claimed, marks: Mapping[int, Mark]) -> Returned:
    kept = {item.position: item.mark for item in claimed.items}
    return give_back(claimed, kept | dict(marks))
