"""How every store tries a job again, tells of its end, and forgets."""

import pytest

from api_adapters.base import Evidence, Verdict
from tests.contract.stores.steps import Steps, refusal
from tests.factories import MINUTE, chunk_of, keys, new_job, refused_at_the_door, some_id
from worker.item import Mark, digest_of_key
from worker.job import LEFTOVERS, JobId, JobState, NewJob, retry_id
from worker.store.base import Claim, Forgotten, Store, Who

DELETED = Mark(Verdict.DELETED, Evidence.ITEM, calls=1)
DENIED = Mark(Verdict.DENIED, Evidence.ITEM, "locked", calls=1)
UNKNOWN = Mark(Verdict.UNKNOWN, code="lost", doubt=True, calls=3)


def ended(store: Store, steps: Steps, marks: list[Mark], *, size: int = 10) -> JobId:
    """A completed job whose items have these marks."""
    job = steps.running(len(marks), size=size)
    while isinstance(claim := steps.try_claim(), Claim):
        steps.record_marks(
            claim, [{i.position: marks[i.position] for i in one.items} for one in claim.batches]
        )
    assert store.settle(job) is not None
    return job


def child_of(parent: JobId, *also: Verdict) -> NewJob:
    """A retry of a job."""
    return new_job(id=retry_id(parent), parent=parent, leftovers=LEFTOVERS | set(also))


def planned_child(store: Store, steps: Steps, parent: JobId, *also: Verdict) -> JobId:
    """A retry that has copied its items and is cut."""
    child = store.open(child_of(parent, *also)).id
    assert store.begin_planning(child, holder="w1", lasting=MINUTE) is not None
    while not store.copy_leftovers(child, limit=2):
        pass
    return steps.planned(child)


def test_a_retry_takes_what_is_left_over_with_its_positions(store: Store, steps: Steps) -> None:
    parent = ended(store, steps, [DELETED, DENIED, DELETED, UNKNOWN, DENIED])

    child = planned_child(store, steps, parent)

    (claimed,) = steps.claim().batches
    assert [item.position for item in claimed.items] == [1, 3, 4]
    assert store.status(child).job.items == 3
    assert store.status(parent).children == (child,)
    assert store.status(child).job.parent == parent


def test_a_retry_inherits_doubt_and_nothing_else(store: Store, steps: Steps) -> None:
    parent = ended(store, steps, [DENIED, UNKNOWN, DENIED])
    planned_child(store, steps, parent)

    (claimed,) = steps.claim().batches

    assert [item.mark for item in claimed.items] == [Mark(), Mark(doubt=True), Mark()]


def test_a_retry_over_many_ranges_is_copied_in_strides(store: Store, steps: Steps) -> None:
    parent = ended(store, steps, [DELETED, DENIED] * 6, size=3)

    child = planned_child(store, steps, parent)

    assert steps.work_off(child).tally[Verdict.DELETED] == 6
    steps.adds_up(child)


def test_a_retry_of_nothing_completes_with_an_empty_tally(store: Store, steps: Steps) -> None:
    parent = ended(store, steps, [DELETED])

    child = planned_child(store, steps, parent)

    status = store.settle(child)
    assert status is not None
    assert (status.job.state, sum(status.tally.values())) == (JobState.COMPLETED, 0)


def test_what_was_rejected_is_tried_again_on_request_alone(store: Store, steps: Steps) -> None:
    parent = steps.running([refused_at_the_door(0, "?"), *chunk_of(keys(2)).items[1:]])
    steps.work_off(parent)

    child = planned_child(store, steps, parent, Verdict.REJECTED)

    assert store.status(child).job.items == 1
    assert steps.verdicts(child) == {0: "rejected"}


def test_a_doubled_retry_is_the_same_job(store: Store, steps: Steps) -> None:
    parent = ended(store, steps, [DENIED])

    first = store.open(child_of(parent))

    assert store.open(child_of(parent)).id == first.id
    with refusal("job_conflict"):
        store.open(child_of(parent, Verdict.ACCEPTED))


def test_a_job_that_has_not_ended_is_not_tried_again(store: Store, steps: Steps) -> None:
    running = steps.running(2)

    with refusal("wrong_state"):
        store.open(child_of(running))
    with refusal("unknown_job"):
        store.open(child_of(some_id()))
    with refusal("unknown_job"):
        store.job(retry_id(running))


def test_a_cancelled_retry_keeps_what_is_in_doubt_unknown(store: Store, steps: Steps) -> None:
    parent = ended(store, steps, [DENIED, UNKNOWN])
    child = store.open(child_of(parent)).id
    store.begin_planning(child, holder="w1", lasting=MINUTE)
    store.copy_leftovers(child, limit=10)

    store.cancel(child, Who())

    steps.end(child)
    assert steps.verdicts(child) == {0: "skipped", 1: "unknown"}


def test_a_notification_is_owed_until_it_was_sent(store: Store, steps: Steps) -> None:
    job = steps.running(2, notify="crm")
    assert not store.owed(limit=10)

    steps.work_off(job)

    (owed,) = store.owed(limit=10)
    assert (owed.job, owed.notify, owed.state) == (job, "crm", JobState.COMPLETED)
    assert owed.tally["deleted"] == 2
    look = store.look(every=MINUTE)
    assert look is not None
    assert look.is_owing
    store.pay(job)
    assert not store.owed(limit=10)


def test_a_job_that_named_nobody_owes_nothing(store: Store, steps: Steps) -> None:
    steps.work_off(steps.running(2))

    assert not store.owed(limit=10)


def test_an_item_is_forgotten_by_settled_jobs_alone(store: Store, steps: Steps) -> None:
    settled = steps.running(["a", "b"])
    steps.work_off(settled)
    running = steps.running(["a"])
    key = digest_of_key("crm", "a")

    forgotten = store.forget("crm", key, Who(os_user="ops"))

    assert forgotten == Forgotten(forgotten=1, kept=1)
    assert [one.job for one in store.mentions(key, limit=10)] == [running]
    assert steps.verdicts(settled) == {1: "deleted"}
    assert store.status(settled).tally[Verdict.DELETED] == 2


@pytest.mark.parametrize("verdict", [None, Verdict.DELETED])
def test_a_forgotten_item_leaves_no_text(
    store: Store, steps: Steps, verdict: Verdict | None
) -> None:
    job = steps.running(["a", "b", "c"])
    steps.work_off(job)

    for name in ("a", "c"):
        store.forget("crm", digest_of_key("crm", name), Who())

    assert [one.item for one in steps.outcomes(job, verdict)] == ["b"]
    assert store.sample(job, limit=10) == ['"b"']
