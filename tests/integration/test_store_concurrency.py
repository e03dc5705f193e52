"""Many processes write to one store at once, and every rule still holds."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps, adds_up
from tests.factories import (
    appetite,
    chunk_of,
    keys,
    landed,
    new_job,
    refused_at_the_door,
)
from tests.integration.stores import at_once, empty_store, in_processes
from worker.errors import RefusedRequest
from worker.item import digest_of_key
from worker.job import Job, JobId, JobState
from worker.store.base import Appetite, Claim, Cut, LeaseId, Protected, Sealed, Who
from worker.store.entering import Submission
from worker.store.sql import SqlStore

PLACES = 8
PROCESSES = 4
THREADS = 8
ROUNDS = 8
#: What a busy machine may make somebody wait; a starved one waits for ever.
LONGEST_WAIT = timedelta(seconds=5)

#: What one claim took, and the moments between which its lease was surely held.
Held = tuple[LeaseId, list[tuple[str, int]], float, float]


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.soak), "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty store."""
    with empty_store(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """The same, opened."""
    store = SqlStore(url)
    yield store
    store.close()


def work_off(url: str) -> list[Held]:
    """Eight threads of one process claim and record until nothing is left."""
    store = SqlStore(url)
    with ThreadPoolExecutor(THREADS) as threads:
        held = [one for some in threads.map(lambda _: work(store), range(THREADS)) for one in some]
    store.close()
    return held


def work(store: SqlStore) -> list[Held]:
    """Claim and record until nothing is open."""
    steps = Steps(store)
    held: list[Held] = []
    while any(not status.job.is_final for status in store.jobs(limit=10)):
        claim = steps.try_claim(appetite(calls=1, places=PLACES))
        if isinstance(claim, Claim):
            since = time.monotonic()
            ranges = [(one.batch.job, one.batch.first) for one in claim.batches]
            held.append((claim.lease, ranges, since, time.monotonic()))
            for job in steps.record(claim).jobs:
                store.settle(job)
    return held


def test_many_workers_share_the_places_and_take_nothing_twice(url: str, store: SqlStore) -> None:
    jobs = [Steps(store).running(keys(240, prefix=f"{name}-"), size=10) for name in "ab"]

    held = [one for some in in_processes(work_off, [(url,)] * PROCESSES) for one in some]

    taken = Counter(name for _, ranges, _, _ in held for name in ranges)
    assert set(taken.values()) == {1}
    assert len(taken) == 48
    assert len({lease for lease, *_ in held}) == len(held)
    assert most_at_once(held) <= PLACES
    for job in jobs:
        assert store.job(job).state is JobState.COMPLETED
        assert store.tally(job)[Verdict.DELETED] == 240


def test_whoever_protects_a_key_waits_for_a_claim_and_counts_it(url: str, store: SqlStore) -> None:
    Steps(store).running(["k0", "k1"])
    another = SqlStore(url)
    texts = {digest_of_key("crm", "k1"): '"k1"'}
    protecting: list[Future[Protected]] = []

    with ThreadPoolExecutor(1) as threads:

        def amid_the_claim(_: object) -> Appetite:
            protecting.append(threads.submit(another.protect, "crm", texts, Who()))
            with pytest.raises(TimeoutError):
                protecting[0].result(timeout=0.5)
            return appetite()

        claim = store.claim(
            "crm",
            fingerprint="f1",
            holder="w1",
            lasting=timedelta(minutes=1),
            appetite=amid_the_claim,
            # Nor does it look first, before it holds the target.
            is_sure=True,
        )

    another.close()
    assert isinstance(claim, Claim)
    assert claim.protected == set()
    assert protecting[0].result().out == 1


def most_at_once(held: list[Held]) -> int:
    """The most leases that were held at one moment."""
    moments = sorted([(since, 1) for *_, since, _ in held] + [(until, -1) for *_, until in held])
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def test_the_last_two_batches_always_settle_their_job(url: str, store: SqlStore) -> None:
    steps = Steps(store)
    for _ in range(ROUNDS):
        job = steps.running(2, size=1)
        claims = [steps.claim(appetite(call_items=1)) for _ in range(2)]

        def end(own: SqlStore, claim: Claim, job: JobId = job) -> bool:
            Steps(own).record(claim)
            return own.settle(job) is not None

        settled = at_once(url, *(lambda own, c=claim: end(own, c) for claim in claims))

        assert sorted(settled) in ([False, True], [True, False])
        assert store.job(job).state is JobState.COMPLETED


def feed(url: str, number: int) -> None:
    """Append large chunks to a job of one's own."""
    store = SqlStore(url)
    job = store.open(new_job(chunk_items=5_000, target=f"fed-{number}")).id
    for chunk in range(20):
        items = keys(5_000, prefix=f"{chunk}-")
        store.append(job, chunk_of(items, number=chunk, start=chunk * 5_000))
    store.close()


def claim_beside(url: str, number: int) -> list[float]:
    """Claim and give back, and how long each claim took in seconds."""
    store = SqlStore(url)
    steps = Steps(store)
    steps.running(100, target=f"worked-{number}")
    waits = []
    until = time.monotonic() + 5
    while time.monotonic() < until:
        began = time.monotonic()
        claim = steps.claim(target=f"worked-{number}")
        waits.append(time.monotonic() - began)
        steps.give_back_unsent(claim)
    store.close()
    return waits


@pytest.mark.soak
def test_claims_do_not_starve_beside_appends(url: str) -> None:
    works = [(feed, url, 1), (feed, url, 2), (claim_beside, url, 1), (claim_beside, url, 2)]

    found = in_processes(call, works)

    waits = sorted(wait for some in found if some for wait in some)
    p99 = waits[len(waits) * 99 // 100]
    assert waits
    assert waits[-1] < LONGEST_WAIT.total_seconds(), f"{len(waits)} claims, p99 {p99:.3f} s"


def call(work, *arguments):  # type: ignore[no-untyped-def]
    """What a process is told to do."""
    return work(*arguments)


def test_a_seal_beside_the_last_chunk_goes_on(url: str, store: SqlStore) -> None:
    for _ in range(ROUNDS):
        job = store.open(new_job(chunk_items=3)).id
        store.append(job, chunk_of(keys(3), number=0))
        last = chunk_of(keys(2, prefix="l"), number=1, start=3)

        answers = at_once(
            url, lambda own, j=job, c=last: own.append(j, c), lambda own, j=job: own.seal(j, 2)
        )

        appended, sealed = answers
        assert isinstance(appended, Job)
        assert isinstance(sealed, Sealed)
        # Whoever came last is told that the job can be planned.
        assert sorted([appended.state, sealed.state]) == [JobState.OPEN, JobState.PLANNING]
        assert store.job(job).state is JobState.PLANNING


def test_a_chunk_beyond_a_seal_is_refused_whole(url: str, store: SqlStore) -> None:
    for _ in range(ROUNDS):
        job = store.open(new_job(chunk_items=3)).id
        beyond = chunk_of(keys(3), number=1, start=3)

        appended, sealed = at_once(
            url, lambda own, j=job, c=beyond: own.append(j, c), lambda own, j=job: own.seal(j, 1)
        )

        # Whoever came first: never both.
        assert isinstance(appended, RefusedRequest) != isinstance(sealed, RefusedRequest)
        assert store.job(job).state is JobState.OPEN
        assert store.job(job).items == (0 if isinstance(sealed, Sealed) else 3)


def test_a_cancelled_job_adds_up_beside_an_append(url: str, store: SqlStore) -> None:
    for _ in range(ROUNDS):
        job = store.open(new_job(chunk_items=3)).id

        def cancel(own: SqlStore, job: JobId = job) -> None:
            own.cancel(job, Who())
            while own.end_ready(job, limit=1):
                pass

        at_once(url, lambda own, j=job: own.append(j, chunk_of(keys(3))), cancel)

        assert Steps(store).end(job).job.state is JobState.CANCELLED
        adds_up(store, job)


def test_a_cancelled_job_adds_up_beside_its_workers(url: str, store: SqlStore) -> None:
    for _ in range(ROUNDS):
        job = Steps(store).running(6, size=1)

        def cancel(own: SqlStore, job: JobId = job) -> None:
            own.cancel(job, Who())
            while own.end_ready(job, limit=2):
                pass

        def delete(own: SqlStore) -> None:
            claim = Steps(own).try_claim(appetite(call_items=2))
            if isinstance(claim, Claim):
                Steps(own).record(claim)

        answers = at_once(url, cancel, delete, delete)

        assert [one for one in answers if isinstance(one, Exception)] == []
        assert Steps(store).end(job).job.state is JobState.CANCELLED
        adds_up(store, job)


def test_one_id_is_one_job_whoever_submits_it(url: str, store: SqlStore) -> None:
    for _ in range(ROUNDS // 2):
        new = new_job()
        same = chunk_of(keys(4))

        answers = at_once(url, *[lambda own, n=new, c=same: own.submit(n, c)] * 3)

        assert all(isinstance(one, Job) and one.items == 4 for one in answers), answers
        assert store.job(new.id).items == 4


def test_one_id_with_two_contents_is_taken_once(url: str, store: SqlStore) -> None:
    for _ in range(ROUNDS // 2):
        new = new_job()
        chunks = [chunk_of(keys(4)), chunk_of(keys(5))]

        answers = at_once(url, *(lambda own, c=one, n=new: own.submit(n, c) for one in chunks))

        (refused,) = [one for one in answers if isinstance(one, Exception)]
        assert isinstance(refused, RefusedRequest)
        assert refused.code == "job_conflict"
        assert store.job(new.id).items in {4, 5}


def submission(names: list[str], **changes: Any) -> Submission:
    """A job whose only chunk holds these items, cut into one range."""
    return Submission(new_job(**changes), chunk_of(names), [Cut(0, len(names) - 1, len(names))])


def test_submissions_that_are_written_together_are_each_answered(store: SqlStore) -> None:
    known = submission(["a"])
    store.submit(known.job, known.chunk, cuts=known.cuts)
    new, uncut = submission(["b", "c"]), replace(submission(["d"]), cuts=())
    other_content = replace(new, chunk=chunk_of(["x"]))
    refused = Submission(new_job(), chunk_of([refused_at_the_door(0, "e"), landed(1, "f")]))

    answers = store._submit_for("", [known, new, uncut, new, other_content, refused])

    *taken, conflict, last = answers
    assert all(isinstance(one, Job) for one in [*taken, last]), answers
    assert isinstance(conflict, RefusedRequest)
    assert conflict.code == "job_conflict"
    ids = [one.job.id for one in (known, new, uncut, refused)]
    states = [store.job(one).state.value for one in ids]
    assert states == ["running", "running", "planning", "planning"]
    assert [store.job(one).items for one in ids] == [1, 2, 1, 2]
    told = [[event.kind for event in store.events(one, limit=9)] for one in ids]
    both = ["job.planned", "job.submitted"]
    assert told == [both, both, ["job.submitted"], ["job.submitted"]]
    places = store.places(refused.job.id, after=-1, limit=9)
    assert [is_open for _, _, is_open in places] == [False, True]
    assert store.status(new.job.id).batches["ready"] == 1


def test_one_submission_that_cannot_be_written_fails_alone(store: SqlStore) -> None:
    good = submission(["a"])
    # PostgreSQL takes no NUL, and nobody but a test gets one so far.
    bad = submission(["b"], requested_by="\0")

    taken, failed = store._submit_for("", [good, bad])

    if isinstance(failed, Exception):
        with pytest.raises(RefusedRequest, match="there is no job"):
            store.job(bad.job.id)
    assert isinstance(taken, Job)
    assert store.job(good.job.id).items == 1


def test_the_same_jobs_from_many_threads_are_there_once(url: str, store: SqlStore) -> None:
    some = [submission([f"k{number}"]) for number in range(40)]

    def submit_all(own: SqlStore) -> list[Job]:
        with ThreadPoolExecutor(THREADS) as threads:
            return list(
                threads.map(lambda one: own.submit(one.job, one.chunk, cuts=one.cuts), some)
            )

    answers = at_once(url, *[submit_all] * 3)

    assert [one for one in answers if isinstance(one, Exception)] == []
    assert {status.job.id for status in store.jobs(limit=100)} == {one.job.id for one in some}
    assert len(list(store.events(None, limit=1_000))) == 2 * len(some)


def forget(url: str, name: str) -> int:
    """Forget one item, and tell of how many jobs."""
    store = SqlStore(url)
    try:
        return store.forget("crm", digest_of_key("crm", name), Who()).forgotten
    finally:
        store.close()


def prune(url: str, job: JobId) -> bool:
    """Prune a job, two items at a time."""
    store = SqlStore(url)
    try:
        while not store.prune(job, limit=2):
            pass
        return True
    finally:
        store.close()


def settled(steps: Steps, names: list[str]) -> JobId:
    """A job of one range all of whose items are deleted."""
    job = steps.running(names, size=len(names))
    steps.record(steps.claim(appetite(call_items=len(names))))
    assert steps.store.settle(job)
    return job


def test_items_of_one_page_are_forgotten_at_once(url: str, store: SqlStore) -> None:
    steps = Steps(store)
    names = [f"k{number}" for number in range(12)]
    for _ in range(ROUNDS // 2):
        job = settled(steps, names)

        with ThreadPoolExecutor(THREADS) as threads:
            told = list(threads.map(forget, [url] * 8, names))

        assert told == [1] * 8
        assert list(store.sample(job, limit=99)) == [f'"{name}"' for name in names[8:]]
        assert not any(store.mentions(digest_of_key("crm", one), limit=9) for one in names[:8])
        assert prune(url, job)


def test_what_is_forgotten_while_its_job_is_pruned_is_gone(url: str, store: SqlStore) -> None:
    steps = Steps(store)
    names = [f"k{number}" for number in range(12)]
    for _ in range(ROUNDS // 2):
        job = settled(steps, names)

        with ThreadPoolExecutor(THREADS) as threads:
            pruned = threads.submit(prune, url, job)
            forgotten = [threads.submit(forget, url, name) for name in names[:6]]
            assert pruned.result()
            assert all(one.result() <= 1 for one in forgotten)

        assert store.sample(job, limit=99) == []
        assert not any(store.mentions(digest_of_key("crm", one), limit=9) for one in names)
