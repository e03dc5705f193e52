"""How every store keeps a plan: ranges, brakes, dry runs and copies."""

import pytest

from tests.contract.stores.steps import Steps, refusal
from tests.factories import (
    MINUTE,
    SECOND,
    Clock,
    chunk_of,
    landed,
    new_job,
    refused_at_the_door,
    some_id,
)
from worker.job import JobId, JobState
from worker.store.base import Cut, Part, Store, Who

DOOR = [refused_at_the_door(0, {"x": 1}), landed(1, "a"), refused_at_the_door(2, "?")]


def test_one_worker_at_a_time_plans_a_job(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.submitted()
    begun = store.begin_planning(job, holder="w1", lasting=MINUTE)

    assert begun == store.job(job)
    assert store.begin_planning(job, holder="w2", lasting=MINUTE) is None
    clock.advance(MINUTE + SECOND)
    assert store.begin_planning(job, holder="w2", lasting=MINUTE) is not None


def test_only_a_job_that_is_to_be_planned_is_planned(store: Store, steps: Steps) -> None:
    for job in (store.open(new_job()).id, steps.running(), some_id()):
        assert store.begin_planning(job, holder="w1", lasting=MINUTE) is None


def test_a_look_names_the_jobs_that_nobody_plans(store: Store, steps: Steps, clock: Clock) -> None:
    left, planned = steps.submitted(), steps.submitted()
    store.begin_planning(planned, holder="w1", lasting=MINUTE)

    first = store.look(every=SECOND)
    clock.advance(MINUTE + SECOND)
    second = store.look(every=SECOND)

    assert first is not None
    assert second is not None
    assert first.plan == (left,)
    assert set(second.plan) == {left, planned}


def test_places_come_in_order_and_in_pages(store: Store, steps: Steps) -> None:
    job = steps.submitted([landed(0, "a"), landed(3, "bb"), landed(9, {"n": 1})])

    assert store.places(job, after=-1, limit=2) == [(0, 3, True), (3, 4, True)]
    assert store.places(job, after=3, limit=2) == [(9, 7, True)]
    assert store.places(job, after=9, limit=2) == []


def test_parts_are_full_and_summed_up(store: Store, steps: Steps) -> None:
    sent = [landed(at, "a" * at) for at in (0, 1, 2, 5, 6, 7, 9)]
    job = steps.submitted([*sent, refused_at_the_door(11, {"x": 1}), refused_at_the_door(12, "?")])

    assert store.parts(job, after=-1, size=3, limit=20) == [
        Part(0, 2, items=3, open_items=3, bytes=9),
        Part(5, 7, items=3, open_items=3, bytes=24),
        Part(9, 12, items=3, open_items=1, bytes=11 + len('{"x":1}"?"')),
    ]
    assert [one.last for one in store.parts(job, after=2, size=3, limit=3)] == [7]
    # Beyond the limit nothing is looked at, so that no part is full.
    assert store.parts(job, after=-1, size=4, limit=4) == []
    assert store.parts(job, after=12, size=1, limit=9) == []


def test_places_of_items_refused_at_the_door_are_closed(store: Store, steps: Steps) -> None:
    places = store.places(steps.submitted(DOOR), after=-1, limit=9)

    assert [is_open for _, _, is_open in places] == [False, True, False]


def test_items_refused_at_the_door_are_never_claimed(store: Store, steps: Steps) -> None:
    job = steps.running(DOOR)
    steps.adds_up(job)
    claim = steps.claim()

    assert [item.position for item in claim.batches[0].items] == [1]
    steps.record(claim)
    assert steps.verdicts(job) == {0: "rejected", 1: "deleted", 2: "rejected"}
    assert steps.outcomes(job)[0].mark.code == "invalid_item"
    steps.adds_up(job)


def test_a_range_of_nothing_but_refused_items_is_done(store: Store, steps: Steps) -> None:
    job = steps.running([refused_at_the_door(0, "?"), refused_at_the_door(1, "!")])

    assert store.status(job).batches == {"ready": 0, "leased": 0, "done": 1, "split": 0}
    assert steps.work_off(job).job.state is JobState.COMPLETED
    steps.adds_up(job)


def test_a_plan_goes_on_where_it_stood(store: Store, steps: Steps) -> None:
    job = steps.submitted(6)
    assert store.last_cut(job) == -1
    store.add_batches(job, [Cut(0, 1, 2), Cut(2, 3, 2)])
    assert store.last_cut(job) == 3

    store.add_batches(job, [Cut(2, 3, 2), Cut(4, 5, 2)])

    assert (store.last_cut(job), store.status(job).batches["ready"]) == (5, 3)


def test_a_planner_that_comes_too_late_changes_nothing(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    before = store.status(job)

    store.add_batches(job, [Cut(4, 9, 6)])

    assert store.start(job) is False
    assert store.hold(job, reason="large") is False
    assert store.finish_dry(job) is False
    assert store.status(job) == before


def test_planning_that_goes_on_after_the_job_was_cancelled_changes_nothing(
    store: Store, steps: Steps
) -> None:
    job = store.submit(new_job(), chunk_of(["a", "b", landed(2, "a")])).id
    store.cancel(job, Who())
    store.end_ready(job, limit=10)

    store.drop_duplicates(job)
    store.add_batches(job, [Cut(0, 2, 3)])

    status = store.settle(job)
    assert status is not None
    assert sum(status.tally.values()) == status.job.items
    steps.adds_up(job)


def test_a_job_is_held_until_it_is_approved(store: Store, steps: Steps) -> None:
    job = steps.submitted()

    assert store.hold(job, reason="12,000 items, more than 10,000")
    assert store.job(job).reason == "12,000 items, more than 10,000"
    assert store.begin_planning(job, holder="w1", lasting=MINUTE) is None
    store.approve(job, Who(os_user="root", by="Ada"))

    assert (store.job(job).state, store.job(job).approved) == (JobState.PLANNING, True)
    assert store.begin_planning(job, holder="w2", lasting=MINUTE) is not None


def test_a_dry_run_skips_everything(store: Store, steps: Steps) -> None:
    job = steps.submitted(DOOR, dry_run=True)

    assert store.finish_dry(job)
    assert store.job(job).state is JobState.COMPLETED
    assert steps.verdicts(job) == {0: "rejected", 1: "skipped", 2: "rejected"}
    mark = steps.outcomes(job)[1].mark
    assert (mark.code, mark.evidence.value, mark.calls) == ("dry_run", "none", 0)
    steps.adds_up(job)


def test_a_dry_run_of_nothing_is_done(store: Store, steps: Steps) -> None:
    job = steps.submitted(0, dry_run=True)

    assert store.finish_dry(job)
    assert (store.job(job).state, store.settle(job)) == (JobState.COMPLETED, None)


def plan_of(store: Store, steps: Steps) -> JobId:
    plan = steps.submitted(DOOR, dry_run=True)
    store.drop_duplicates(plan)
    store.finish_dry(plan)
    return plan


def copied(store: Store, job: JobId) -> None:
    while not store.copy_plan(job, limit=2):
        pass


def test_a_plan_is_executed_with_its_frozen_items(store: Store, steps: Steps) -> None:
    plan = plan_of(store, steps)
    job = store.open(new_job(plan=plan))
    assert job.state is JobState.PLANNING

    copied(store, job.id)
    copied(store, job.id)
    steps.planned(job.id)
    steps.work_off(job.id)

    assert steps.verdicts(job.id) == {0: "rejected", 1: "deleted", 2: "rejected"}
    assert (store.job(job.id).items, store.job(job.id).plan) == (3, plan)
    assert steps.verdicts(plan)[1] == "skipped"
    steps.adds_up(job.id)


def test_executing_a_plan_twice_under_one_id_is_one_job(store: Store, steps: Steps) -> None:
    new = new_job(plan=plan_of(store, steps))

    assert store.open(new) == store.open(new)


def test_only_a_completed_dry_run_is_a_plan(store: Store, steps: Steps) -> None:
    running, unfinished = steps.running(), steps.submitted(dry_run=True)

    for plan in (running, unfinished):
        with refusal("wrong_state"):
            store.open(new_job(plan=plan))
    with refusal("unknown_job"):
        store.open(new_job(plan=some_id()))


@pytest.mark.parametrize("changes", [{"target": "erp"}, {"fingerprint": "f2"}])
def test_a_plan_is_executed_where_it_was_made(
    store: Store, steps: Steps, changes: dict[str, str]
) -> None:
    plan = plan_of(store, steps)

    with refusal("wrong_state"):
        store.open(new_job(plan=plan, **changes))


def test_a_plan_job_that_was_refused_is_not_there(store: Store, steps: Steps) -> None:
    new = new_job(plan=steps.running())

    with refusal("wrong_state"):
        store.open(new)
    with refusal("unknown_job"):
        store.job(new.id)


def test_a_job_whose_plan_is_cancelled_half_way_adds_up(store: Store, steps: Steps) -> None:
    job = store.open(new_job(plan=plan_of(store, steps))).id
    store.copy_plan(job, limit=2)
    store.cancel(job, Who())

    assert steps.end(job).job.state is JobState.CANCELLED
    steps.adds_up(job)


def test_a_plan_that_is_copied_on_after_the_job_was_cancelled_changes_nothing(
    store: Store, steps: Steps
) -> None:
    job = store.open(new_job(plan=plan_of(store, steps))).id
    store.copy_plan(job, limit=2)
    store.cancel(job, Who())
    store.end_ready(job, limit=10)

    store.copy_plan(job, limit=2)

    status = store.settle(job)
    assert status is not None
    assert sum(status.tally.values()) == status.job.items
    assert len(store.sample(job, limit=9)) == status.job.items
