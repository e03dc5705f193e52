"""How jobs come to their end in every store: commands, wishes and the close."""

from collections.abc import Callable

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps, refusal
from tests.factories import (
    Clock,
    all_marked,
    appetite,
    chunk_of,
    final,
    keys,
    landed,
    new_job,
    refused_at_the_door,
    some_id,
)
from worker.batch import give_back
from worker.item import Mark
from worker.job import JobId, JobState
from worker.store.base import Closing, Cut, Store, Who

ADA = Who(os_user="root", by="Ada", reason="wrong list")
DOUBT = Mark(doubt=True, calls=1)


def open_job(store: Store, steps: Steps) -> JobId:
    job = store.open(new_job(chunk_items=2)).id
    store.append(job, chunk_of(["a", "b"]))
    return job


def planning(store: Store, steps: Steps) -> JobId:
    return steps.submitted([landed(0, "a"), refused_at_the_door(1, "?"), landed(2, "b")])


def decided(
    steps: Steps, items: list[str], verdict: Verdict = Verdict.DELETED, **changes: str
) -> JobId:
    """A job all of whose items have their outcome."""
    job = steps.running(items, **changes)
    steps.record(steps.claim(), verdict)
    return job


def half_cut(store: Store, steps: Steps) -> JobId:
    job = steps.submitted(6)
    store.add_batches(job, [Cut(0, 1, 2)])
    return job


def awaiting(store: Store, steps: Steps) -> JobId:
    job = steps.submitted()
    store.hold(job, reason="large")
    return job


def running(store: Store, steps: Steps) -> JobId:
    return steps.running(9, size=2)


def half_done(store: Store, steps: Steps) -> JobId:
    job = steps.running(9, size=3)
    steps.record(steps.claim(appetite(call_items=3)))
    return job


def paused(store: Store, steps: Steps) -> JobId:
    job = steps.running()
    store.pause(job, Who())
    return job


def empty(store: Store, steps: Steps) -> JobId:
    return steps.submitted(0)


UNFINISHED = [open_job, planning, half_cut, awaiting, running, half_done, paused, empty]
Maker = Callable[[Store, Steps], JobId]


@pytest.mark.parametrize("make", UNFINISHED)
def test_a_job_can_be_cancelled_in_every_state(store: Store, steps: Steps, make: Maker) -> None:
    job = make(store, steps)
    done_before = steps.verdicts(job)

    store.cancel(job, ADA)
    assert store.job(job).state is JobState.CANCELLING
    status = steps.end(job)

    assert (status.job.state, status.job.reason) == (JobState.CANCELLED, "wrong list")
    assert steps.verdicts(job).items() >= done_before.items()
    assert set(steps.verdicts(job).values()) <= {"skipped", "rejected", "deleted"}
    steps.adds_up(job)


@pytest.mark.parametrize("make", UNFINISHED)
def test_a_job_can_be_stopped_in_every_state(store: Store, steps: Steps, make: Maker) -> None:
    job = make(store, steps)

    assert store.stop(job, reason="no permission") is True
    status = steps.end(job)

    assert (status.job.state, status.job.reason) == (JobState.STOPPED, "no permission")
    steps.adds_up(job)


def test_what_is_left_undone_says_why(store: Store, steps: Steps) -> None:
    wishes: list[tuple[Callable[[JobId], object], str]] = [
        (lambda job: store.cancel(job, ADA), "cancelled"),
        (lambda job: store.stop(job, reason="wrong list"), "stopped"),
    ]
    for wish, code in wishes:
        for make in (planning, running):
            job = make(store, steps)
            wish(job)
            steps.end(job)
            mark = steps.outcomes(job, Verdict.SKIPPED)[0].mark
            assert (mark.code, mark.message, mark.calls) == (code, "wrong list", 0)


def test_a_declined_job_is_cancelled(store: Store, steps: Steps) -> None:
    job = awaiting(store, steps)

    store.decline(job, ADA)
    status = steps.end(job)

    assert (status.job.state, status.job.reason) == (JobState.CANCELLED, "wrong list")
    assert {one.mark.code for one in steps.outcomes(job)} == {"declined"}


@pytest.mark.parametrize(
    ("who", "reason"),
    [(Who(), "cancelled"), (Who(by="Ada"), "cancelled by Ada"), (ADA, "wrong list")],
)
def test_the_reason_of_a_cancelled_job(store: Store, steps: Steps, who: Who, reason: str) -> None:
    job = steps.running()

    store.cancel(job, who)

    assert store.job(job).reason == reason


def test_ranges_are_ended_in_bounded_strides(store: Store, steps: Steps) -> None:
    job = steps.running(9, size=2)
    store.cancel(job, Who())

    assert store.end_ready(job, limit=2) == 2
    assert store.status(job).batches["ready"] == 3
    assert store.settle(job) is None
    steps.adds_up(job)


def test_only_a_job_that_is_ending_is_ended(store: Store, steps: Steps) -> None:
    job = steps.running()

    assert store.end_ready(job, limit=9) == 0
    assert store.status(job).batches["ready"] == 1


def test_items_in_doubt_of_a_job_that_ends_are_unknown(store: Store, steps: Steps) -> None:
    job = steps.running(5)
    claim = steps.claim()
    steps.record_marks(claim, [{0: final(), 1: DOUBT, 2: DOUBT}])

    store.cancel(job, ADA)
    steps.end(job)

    assert steps.verdicts(job) == {
        0: "deleted",
        1: "unknown",
        2: "unknown",
        3: "skipped",
        4: "skipped",
    }
    steps.adds_up(job)


def test_open_strays_of_a_decided_range_are_ended(store: Store, steps: Steps) -> None:
    job = steps.running(5)
    claim = steps.claim()
    steps.record_marks(claim, [all_marked(claim.batches[0], final()) | {1: DOUBT, 2: Mark()}])

    store.cancel(job, ADA)
    steps.end(job)

    found = steps.outcomes(job)
    assert [found[1].mark.verdict, found[2].mark.verdict] == [Verdict.UNKNOWN, Verdict.SKIPPED]
    assert found[1].mark.code == "cancelled"
    assert found[0].mark.code is None
    steps.adds_up(job)


def test_a_range_in_doubt_is_unknown_when_its_job_ends(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    claim = steps.claim()
    steps.record_marks(claim, [all_marked(claim.batches[0], DOUBT)])

    store.stop(job, reason="no")
    steps.end(job)

    assert set(steps.verdicts(job).values()) == {"unknown"}
    assert {one.mark.calls for one in steps.outcomes(job)} == {1}


def test_a_call_that_is_out_while_its_job_is_cancelled_still_counts(
    store: Store, steps: Steps
) -> None:
    job = steps.running(4, size=2)
    claim = steps.claim(appetite(call_items=2))
    store.cancel(job, Who())
    while store.end_ready(job, limit=9):
        pass
    assert store.settle(job) is None

    steps.record(claim)

    assert store.settle(job) is not None
    assert sorted(steps.verdicts(job).values()) == ["deleted", "deleted", "skipped", "skipped"]


def test_what_comes_back_open_to_a_job_that_ends_is_ended(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    claim = steps.claim()
    store.cancel(job, ADA)

    noted = steps.record_marks(claim, [{0: final(), 1: DOUBT}])

    assert noted.jobs == (job,)
    assert steps.verdicts(job) == {0: "deleted", 1: "unknown", 2: "skipped", 3: "skipped"}
    assert store.settle(job) is not None
    steps.adds_up(job)


def test_what_comes_back_split_to_a_job_that_ends_is_ended(store: Store, steps: Steps) -> None:
    from dataclasses import replace

    job = steps.running(4)
    claim = steps.claim()
    store.cancel(job, ADA)
    returned = give_back(claim.batches[0], all_marked(claim.batches[0], DOUBT))

    store.record(claim.lease, [replace(returned, split_at=2)])

    assert set(steps.verdicts(job).values()) == {"unknown"}
    assert store.settle(job) is not None
    steps.adds_up(job)


def test_what_comes_back_open_to_a_paused_job_is_ready(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    claim = steps.claim()
    store.pause(job, Who())

    steps.give_back_unsent(claim)

    assert store.status(job).batches["ready"] == 1
    assert steps.verdicts(job) == {}


def test_a_job_is_settled_once(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(3)
    assert store.settle(job) is None
    steps.record(steps.claim())
    finished = clock.advance()

    status = store.settle(job)

    assert status is not None
    assert status == store.status(job)
    assert (status.job.state, status.job.finished_at) == (JobState.COMPLETED, finished)
    assert status.tally[Verdict.DELETED] == 3
    assert store.settle(job) is None
    settled = [event for event in store.events(job, limit=99) if event.kind == "job.settled"]
    assert len(settled) == 1


def test_several_jobs_are_settled_at_once(store: Store, steps: Steps, clock: Clock) -> None:
    done, again = decided(steps, ["a"]), decided(steps, ["b"])
    still_open, ending = steps.running(["c"]), steps.running(["d"])
    store.cancel(ending, Who())
    finished = clock.advance()

    closing = store.settle_done([again, still_open, ending, done, some_id()])

    assert {one.job for one in closing.settled} == {done, again}
    assert {(one.target, one.state, one.notify) for one in closing.settled} == {
        ("crm", JobState.COMPLETED, None)
    }
    assert closing.ending == (ending,)
    for job in (done, again):
        status = store.status(job)
        assert (status.job.state, status.job.finished_at) == (JobState.COMPLETED, finished)
        assert status.tally[Verdict.DELETED] == 1
        assert [one.kind for one in store.events(job, limit=99)].count("job.settled") == 1
    assert store.settle_done([done, again]).settled == ()
    assert store.job(still_open).state is JobState.RUNNING


def test_of_several_jobs_one_that_owes_a_notification_owes_it(store: Store, steps: Steps) -> None:
    quiet, loud = decided(steps, ["a"]), decided(steps, ["b"], notify="crm")

    closing = store.settle_done([quiet, loud])

    assert {one.job: one.notify for one in closing.settled} == {quiet: None, loud: "crm"}
    assert [one.job for one in store.owed(limit=9)] == [loud]


def test_settling_one_job_and_several_write_the_same(store: Store, steps: Steps) -> None:
    one, other = (decided(steps, keys(3), Verdict.DENIED) for _ in range(2))

    store.settle(one)
    store.settle_done([other])

    found = [store.status(job) for job in (one, other)]
    assert found[0].tally == found[1].tally
    details = [
        event.detail for event in store.events(None, limit=99) if event.kind == "job.settled"
    ]
    assert details[0] == details[1]


@pytest.mark.parametrize("make", [open_job, planning, half_cut, awaiting])
def test_of_several_jobs_those_that_have_not_run_are_not_settled(
    store: Store, steps: Steps, make: Maker
) -> None:
    job = make(store, steps)

    assert store.settle_done([job]) == Closing()


def test_a_paused_job_completes_when_calls_that_were_out_decide_the_rest(
    store: Store, steps: Steps
) -> None:
    job = steps.running(3)
    claim = steps.claim()
    store.pause(job, Who())
    assert store.settle(job) is None
    steps.record(claim)

    status = store.settle(job)

    assert status is not None
    assert status.job.state is JobState.COMPLETED


@pytest.mark.parametrize("make", [open_job, planning, half_cut, awaiting])
def test_a_job_that_has_not_run_is_not_settled(store: Store, steps: Steps, make: Maker) -> None:
    job = make(store, steps)

    assert store.settle(job) is None


def test_a_job_that_is_half_cut_is_not_settled_before_its_rest_is_ended(
    store: Store, steps: Steps
) -> None:
    job = half_cut(store, steps)
    store.cancel(job, Who())

    assert store.settle(job) is None


def test_an_ended_job_is_left_as_it_is(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    steps.work_off(job)
    before = store.status(job)

    store.cancel(job, ADA)

    assert store.stop(job, reason="no") is False
    assert store.status(job) == before


def test_the_first_wish_to_end_holds(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    store.cancel(job, ADA)

    assert store.stop(job, reason="no") is False
    store.cancel(job, Who(reason="another"))

    assert steps.end(job).job.reason == "wrong list"
    assert store.job(job).state is JobState.CANCELLED


def test_a_job_runs_on_after_it_was_paused(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    store.pause(job, ADA)
    assert store.job(job).state is JobState.PAUSED
    store.resume(job, ADA)

    assert steps.work_off(job).job.state is JobState.COMPLETED


def test_commands_are_for_their_state_alone(store: Store, steps: Steps) -> None:
    legal = {"pause": running, "resume": paused, "approve": awaiting, "decline": awaiting}
    for command, own in legal.items():
        for make in UNFINISHED:
            if make not in {own, half_done} and not (own is running and make is half_done):
                with refusal("wrong_state"):
                    getattr(store, command)(make(store, steps), Who())


def test_commands_are_for_jobs_that_are_there(store: Store) -> None:
    for command in ("pause", "resume", "cancel", "approve", "decline"):
        with refusal("unknown_job"):
            getattr(store, command)(some_id(), Who())


@pytest.mark.parametrize(
    ("command", "make"),
    [
        ("pause", running),
        ("resume", paused),
        ("cancel", running),
        ("approve", awaiting),
        ("decline", awaiting),
    ],
)
def test_who_gave_a_command_is_kept(
    store: Store, steps: Steps, clock: Clock, command: str, make: Maker
) -> None:
    job = make(store, steps)
    at = clock.advance()

    getattr(store, command)(job, ADA)

    event = next(iter(store.events(job, limit=1)))
    assert (event.at, event.job, event.os_user, event.by) == (at, job, "root", "Ada")
    assert event.detail["reason"] == "wrong list"
    assert command.removesuffix("e") in event.kind


def test_a_refused_command_leaves_no_event(store: Store, steps: Steps) -> None:
    job = steps.running()
    before = list(store.events(job, limit=99))

    with refusal("wrong_state"):
        store.resume(job, ADA)

    assert list(store.events(job, limit=99)) == before
