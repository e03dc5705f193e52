"""How every store stops a job that mostly fails, and binds approval to its items."""

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps, refusal
from tests.factories import (
    SECOND,
    Clock,
    all_marked,
    appetite,
    final,
    landed,
    new_job,
    refused_at_the_door,
)
from worker.failing import CHECK_EVERY, Tolerance
from worker.job import JobId, JobState
from worker.store.base import Busy, Claim, Store, Who

TOLERANCE = Tolerance(share=0.5, after=4)


def try_claim(store: Store, tolerance: Tolerance | None = TOLERANCE) -> Claim | Busy:
    return store.claim(
        "crm",
        fingerprint="f1",
        holder="w1",
        lasting=SECOND * 9,
        appetite=lambda _: appetite(call_items=2),
        tolerance=tolerance,
    )


def claim(store: Store, tolerance: Tolerance | None = TOLERANCE) -> Claim:
    claimed = try_claim(store, tolerance)
    assert isinstance(claimed, Claim)
    return claimed


def work(store: Store, steps: Steps, *verdicts: Verdict, tolerance: Tolerance | None) -> None:
    """Claim twos and record one verdict for each."""
    for verdict in verdicts:
        steps.record(claim(store, tolerance), verdict)


def test_a_job_that_mostly_fails_is_stopped_at_the_claim(store: Store, steps: Steps) -> None:
    job = steps.running(8, size=2)
    work(store, steps, Verdict.FAILED, Verdict.DENIED, tolerance=None)

    answer = try_claim(store)

    reason = "of 4 decided items 4 are not gone (2 denied, 2 failed), and max_failures is 0.5"
    found = store.job(job)
    assert answer == Busy(SECOND * 0)
    assert (found.state, found.reason) == (JobState.CANCELLING, reason)
    assert store.status(job).batches["leased"] == 0
    stopped = next(one for one in store.events(job, limit=9) if one.kind == "job.stopped")
    assert stopped.detail["reason"] == reason
    ended = steps.end(job)
    assert ended.job.state is JobState.STOPPED
    assert ended.tally[Verdict.SKIPPED] == 4
    assert isinstance(try_claim(store), Busy)


@pytest.mark.parametrize("verdict", [Verdict.DELETED, Verdict.ABSENT, Verdict.ACCEPTED])
def test_a_job_of_which_half_is_gone_goes_on(store: Store, steps: Steps, verdict: Verdict) -> None:
    steps.running(8, size=2)
    work(store, steps, Verdict.FAILED, verdict, tolerance=None)

    assert isinstance(try_claim(store), Claim)


def test_strays_count_as_failures_too(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(12, size=2)
    for _ in range(2):
        one = claim(store, None)
        place = one.batches[0].items[0].position
        marks = all_marked(one.batches[0], final(Verdict.DELETED))
        steps.record_marks(one, [marks | {place: final(Verdict.REJECTED)}])
    steps.record(claim(store), Verdict.UNKNOWN)

    assert isinstance(try_claim(store), Claim)  # It was looked at a moment ago.
    clock.advance(CHECK_EVERY)
    assert isinstance(try_claim(store), Busy)
    assert "(2 unknown, 2 rejected)" in (store.job(job).reason or "")


def test_what_was_refused_at_the_door_counts(store: Store, steps: Steps) -> None:
    door = [refused_at_the_door(n, "?") for n in range(5)]
    job = steps.running([*door, landed(5, "a"), landed(6, "b")], size=10)

    assert isinstance(try_claim(store), Busy)
    assert "5 rejected" in (store.job(job).reason or "")


def test_a_small_job_is_not_looked_at(store: Store, steps: Steps) -> None:
    steps.running(4, size=2)
    work(store, steps, Verdict.FAILED, tolerance=TOLERANCE)

    assert isinstance(try_claim(store), Claim)


def test_a_job_is_looked_at_now_and_then(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(12, size=2)
    work(store, steps, Verdict.FAILED, Verdict.FAILED, tolerance=TOLERANCE)
    assert isinstance(try_claim(store), Claim)

    clock.advance(CHECK_EVERY)

    assert isinstance(try_claim(store), Busy)
    assert store.job(job).state is JobState.CANCELLING


def test_a_call_that_is_out_is_recorded_all_the_same(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(12, size=2)
    out = claim(store)
    work(store, steps, Verdict.FAILED, Verdict.FAILED, tolerance=None)
    clock.advance(SECOND)
    assert isinstance(try_claim(store), Busy)

    steps.record(out)

    assert steps.end(job).tally[Verdict.DELETED] == 2


def test_another_job_is_served_in_its_stead(store: Store, steps: Steps, clock: Clock) -> None:
    bad = steps.running(12, size=2)
    work(store, steps, Verdict.FAILED, Verdict.FAILED, tolerance=None)
    good = steps.running(2, size=2)
    clock.advance(SECOND)

    jobs: list[JobId] = []
    while True:
        answer = try_claim(store)
        if isinstance(answer, Claim):
            jobs += [one.batch.job for one in answer.batches]
            steps.record(answer)
        elif answer.wait is None:
            break

    assert jobs == [good]
    assert store.job(bad).state is JobState.CANCELLING


# -- approval ---------------------------------------------------------------------


def test_a_held_job_keeps_the_digest_of_its_items(store: Store, steps: Steps) -> None:
    job = steps.submitted()

    store.hold(job, reason="large", digest="d" * 64)

    assert store.job(job).items_digest == "d" * 64
    held = next(one for one in store.events(job, limit=9) if one.kind == "job.held")
    assert held.detail == {"reason": "large", "items": 4, "digest": "d" * 64}


def test_another_digest_is_not_approved(store: Store, steps: Steps) -> None:
    job = steps.submitted()
    store.hold(job, reason="large", digest="d" * 64)

    with refusal("wrong_state"):
        store.approve(job, Who(), digest="e" * 64)
    assert store.job(job).state is JobState.AWAITING_APPROVAL
    store.approve(job, Who(os_user="ada", by="Ada", reason="seen"), digest="d" * 64)

    approved = next(one for one in store.events(job, limit=9) if one.kind == "job.approved")
    assert (approved.os_user, approved.by) == ("ada", "Ada")
    assert approved.detail == {"reason": "seen", "digest": "d" * 64, "items": 4}


def test_content_comes_in_order_and_in_pages(store: Store, steps: Steps) -> None:
    job = steps.submitted([landed(0, "a"), refused_at_the_door(3, "?"), landed(9, {"n": 1})])

    found: list[tuple[int, str, bytes | None]] = []
    while page := store.content(job, after=found[-1][0] if found else -1, limit=2):
        assert len(page) <= 2
        found += page

    assert [(place, text) for place, text, _ in found] == [(0, '"a"'), (3, '"?"'), (9, '{"n":1}')]
    assert [key is None for _, _, key in found] == [False, True, False]


def test_a_plan_of_a_target_as_it_was_then_is_refused(store: Store, steps: Steps) -> None:
    plan = steps.submitted(dry_run=True)
    store.finish_dry(plan)

    for changes in ({"fingerprint": "f2"}, {"target": "erp"}):
        with refusal("wrong_state"):
            store.open(new_job(plan=plan, **changes))
    assert store.open(new_job(plan=plan)).plan == plan
