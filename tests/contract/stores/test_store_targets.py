"""How every store leaves a target alone, and takes it up again."""

from dataclasses import replace

import pytest

from tests.contract.stores.steps import Steps, refusal
from tests.factories import MINUTE, SECOND, Clock, appetite, chunk_of, new_job
from worker.batch import Returned
from worker.breaking import CLOSED, FAILURES_TO_OPEN, FIRST_REST, Circuit
from worker.store.base import Busy, CallNote, Claim, JobNote, Store, Who


def test_a_closed_target_is_tried_again_at_once_when_it_is_opened(
    store: Store, steps: Steps
) -> None:
    job = steps.running(2)
    store.close_target("crm", reason="the token is wrong", rest=MINUTE)
    assert isinstance(steps.try_claim(), Busy)

    assert store.open_target("crm", Who(os_user="ops"))

    assert isinstance(steps.try_claim(), Claim)
    assert store.target_note("crm").closed_reason is None
    assert "target.opened" in {event.kind for event in store.events(None, limit=10)}
    assert store.status(job).waiting_for is None


def test_an_open_target_has_nothing_to_open(store: Store, steps: Steps) -> None:
    steps.running(2)

    assert not store.open_target("crm", Who())


# -- circuits --------------------------------------------------------------------------


def fail(store: Store, steps: Steps, times: int = 1) -> None:
    """Let so many calls of the target fail, each of a claim of its own."""
    for _ in range(times):
        claim = steps.claim()
        kept = [Returned(one.batch) for one in claim.batches]
        store.record(claim.lease, kept, call=CallNote(SECOND, answered=False, failures=1))


def test_a_target_that_keeps_failing_is_left_alone_for_growing_moments(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(60)
    fail(store, steps, FAILURES_TO_OPEN - 1)
    assert store.status(job).waiting_for is None
    fail(store, steps)

    assert steps.try_claim() == Busy(FIRST_REST)
    assert store.status(job).waiting_for == "circuit"
    assert store.target_note("crm").circuit == Circuit(FAILURES_TO_OPEN, 1)
    clock.advance(FIRST_REST)
    fail(store, steps)

    assert steps.try_claim() == Busy(FIRST_REST * 2)


def test_an_open_circuit_lets_one_call_through(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(60)
    fail(store, steps, FAILURES_TO_OPEN)
    clock.advance(FIRST_REST)

    trial = steps.claim(appetite(calls=5, places=9))

    assert len(trial.batches) == 1
    assert steps.try_claim(appetite(calls=5, places=9)) == Busy()


@pytest.mark.parametrize(
    "note",
    [
        CallNote(SECOND, answered=True, is_alive=True),
        CallNote(SECOND, answered=False, is_alive=True),
    ],
    ids=["answered", "refused"],
)
def test_a_sign_of_life_closes_a_circuit(
    store: Store, steps: Steps, clock: Clock, note: CallNote
) -> None:
    steps.running(60)
    fail(store, steps, FAILURES_TO_OPEN)
    clock.advance(FIRST_REST)
    trial = steps.claim()

    store.record(trial.lease, [Returned(one.batch) for one in trial.batches], call=note)

    assert store.target_note("crm").circuit == CLOSED
    assert len(steps.claim(appetite(calls=3)).batches) == 3
    kinds = [one.kind for one in store.events(None, limit=9)]
    assert kinds.count("circuit.opened") == kinds.count("circuit.closed") == 1


def test_calls_that_were_out_when_the_rest_began_do_not_lengthen_it(
    store: Store, steps: Steps
) -> None:
    steps.running(200)
    claims = [steps.claim(appetite(places=99)) for _ in range(FAILURES_TO_OPEN + 3)]

    for claim in claims:
        kept = [Returned(one.batch) for one in claim.batches]
        store.record(claim.lease, kept, call=CallNote(SECOND, answered=False, failures=1))

    assert store.target_note("crm").circuit.openings == 1


def test_other_targets_go_on(store: Store, steps: Steps) -> None:
    steps.running(60)
    other = steps.running(4, target="erp")
    fail(store, steps, FAILURES_TO_OPEN)

    assert steps.claim(target="erp").batches[0].batch.job == other


# -- a store that was away ---------------------------------------------------------------


def test_a_takeover_waits_one_lease_after_the_store_was_away(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running()
    claim = steps.claim(lasting=MINUTE)
    clock.advance(MINUTE * 5)

    assert store.come_back() == 1
    assert store.come_back() == 0

    look = store.look(every=SECOND)
    assert look is not None
    assert not look.has_lost_leases
    assert steps.record(claim).jobs == (job,)


def test_what_nobody_holds_is_taken_over_one_lease_later(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running()
    steps.claim(lasting=MINUTE)
    clock.advance(MINUTE * 5)
    store.come_back()
    clock.advance(MINUTE + SECOND)

    look = store.look(every=SECOND)

    assert look is not None
    assert look.has_lost_leases


# -- targets that were configured anew ------------------------------------------------------


def test_a_job_goes_on_with_its_target_as_it_is_now_once_that_is_accepted(
    store: Store, steps: Steps
) -> None:
    job = steps.running()
    assert steps.try_claim(fingerprint="f2") == Busy()

    store.accept_target(job, Who(by="Ada"), fingerprint="f2")

    assert steps.claim(fingerprint="f2").batches[0].batch.job == job
    assert [one.by for one in store.events(job, limit=1)] == ["Ada"]


def test_an_ended_job_accepts_nothing(store: Store, steps: Steps) -> None:
    job = steps.running()
    steps.record(steps.claim())
    store.settle(job)

    with refusal("wrong_state"):
        store.accept_target(job, Who(), fingerprint="f2")


# -- what holds a job back --------------------------------------------------------------------


def test_a_job_note_says_what_holds_it_back(store: Store, steps: Steps, clock: Clock) -> None:
    opened = store.open(new_job(chunk_items=2)).id
    store.append(opened, chunk_of(["a", "b"]))
    assert store.job_note(opened) == JobNote(chunks_landed=1)
    store.seal(opened, 2)
    assert store.job_note(opened) == JobNote(chunks_landed=1, chunks_wanted=2)

    planned = steps.submitted(4)
    store.begin_planning(planned, holder="w1", lasting=MINUTE)
    assert store.job_note(planned).is_planned

    running = steps.running(4)
    claim = steps.claim()
    batch = claim.batches[0].batch
    waits = replace(batch, mark=replace(batch.mark, message="no answer"))
    store.record(claim.lease, [Returned(waits, rest=MINUTE)])
    note = store.job_note(running)
    assert (note.next_try, note.cause) == (MINUTE, "no answer")
