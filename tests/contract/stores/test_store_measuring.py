"""How every store tells what waits and what has become of all."""

from datetime import timedelta

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps
from tests.factories import (
    MINUTE,
    SECOND,
    Clock,
    all_marked,
    appetite,
    final,
    keys,
    new_job,
    refused_at_the_door,
)
from worker.batch import Returned, give_back
from worker.call import BOUNDS, Answer, Call
from worker.item import Mark
from worker.job import JobId
from worker.store.base import Backlog, CallNote, Store, Who


def backlog(store: Store, target: str = "crm") -> Backlog:
    return store.measure().backlogs[target]


def items_of(store: Store, target: str = "crm") -> dict[str, int]:
    """Decided items by verdict, those of which there are any."""
    items = backlog(store, target).totals.items
    return {verdict.value: count for verdict, count in items.items() if count}


def calls_of(store: Store) -> dict[str, int]:
    return {answer.value: n for answer, n in backlog(store).totals.calls.items() if n}


def test_nothing_is_told_of_an_empty_store(store: Store) -> None:
    measures = store.measure()

    assert not measures.backlogs
    assert (measures.ticked, measures.looked, measures.lost_for) == (None, None, None)


def test_batches_are_counted_as_they_are_claimed_and_done(store: Store, steps: Steps) -> None:
    steps.running(10, size=2)
    assert (backlog(store).ready, backlog(store).leased) == (5, 0)

    claim = steps.claim(appetite(call_items=4))
    assert (backlog(store).ready, backlog(store).leased) == (3, 2)
    assert backlog(store).note.live_leases == 1

    steps.record(claim)
    assert (backlog(store).ready, backlog(store).leased) == (3, 0)
    assert items_of(store) == {"deleted": 4}


def test_a_split_leaves_one_batch_more(store: Store, steps: Steps) -> None:
    steps.running(4, size=4)
    claim = steps.claim()
    store.record(claim.lease, [Returned(claim.batches[0].batch, split_at=2)])

    assert (backlog(store).ready, backlog(store).leased) == (2, 0)


def test_a_part_of_a_split_may_be_done_already(store: Store, steps: Steps) -> None:
    steps.running(4, size=4)
    claim = steps.claim()
    marks = {i.position: final() if i.position < 2 else i.mark for i in claim.batches[0].items}
    returned = give_back(claim.batches[0], marks)
    store.record(claim.lease, [Returned(returned.batch, returned.strays, split_at=2)])

    assert backlog(store).ready == 1
    assert items_of(store) == {"deleted": 2}


def test_what_was_refused_at_the_door_counts_once_it_is_cut(store: Store, steps: Steps) -> None:
    job = steps.submitted([*keys(3), refused_at_the_door(3, "?")])
    assert "crm" not in store.measure().backlogs or not items_of(store)
    steps.planned(job)

    assert items_of(store) == {"rejected": 1}
    steps.work_off(job)
    assert items_of(store) == {"rejected": 1, "deleted": 3}


def test_what_a_cancelled_job_leaves_undone_counts_as_it_ends(store: Store, steps: Steps) -> None:
    job = steps.running([*keys(5), refused_at_the_door(5, "?")], size=2)
    steps.record(steps.claim(appetite(call_items=2)))
    store.cancel(job, Who())
    steps.end(job)

    assert items_of(store) == {"deleted": 2, "rejected": 1, "skipped": 3}
    assert (backlog(store).ready, backlog(store).leased) == (0, 0)


def test_what_comes_back_to_an_ending_job_counts_with_its_record(
    store: Store, steps: Steps
) -> None:
    job = steps.running(4, size=2)
    claim = steps.claim(appetite(call_items=4))
    store.stop(job, reason="no permission")
    doubt = Mark(doubt=True, calls=1)
    steps.record_marks(claim, [all_marked(claim.batches[0], doubt), {}])

    assert items_of(store) == {"unknown": 2, "skipped": 2}
    assert backlog(store).ready == 0


def test_a_job_that_was_never_cut_counts_when_it_ends(store: Store, steps: Steps) -> None:
    steps.end(_cancelled(store, steps, [*keys(2), refused_at_the_door(2, "?")]))
    job = steps.submitted(3, dry_run=True)
    store.begin_planning(job, holder="w1", lasting=MINUTE)
    assert store.finish_dry(job)

    assert items_of(store) == {"skipped": 5, "rejected": 1}
    assert backlog(store).ready == 0


def _cancelled(store: Store, steps: Steps, items: list[object]) -> JobId:
    job = steps.submitted(items)  # type: ignore[arg-type]
    store.cancel(job, Who())
    return job


def test_what_a_lost_worker_had_counts_when_it_is_taken_over(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(4, size=2)
    steps.running(2, size=2, target="erp")
    steps.claim(appetite(call_items=4))
    steps.claim(target="erp")
    clock.advance(MINUTE * 2)
    assert store.measure().lost_for == MINUTE
    unknown = final(Verdict.UNKNOWN)

    store.rescue(lambda _, one: give_back(one, all_marked(one, unknown)), limit=10)

    assert items_of(store) == {"unknown": 4}
    assert items_of(store, "erp") == {"unknown": 2}
    assert store.measure().lost_for is None


def test_a_retry_counts_its_items_by_itself(store: Store, steps: Steps) -> None:
    parent = steps.running(2)
    steps.record(steps.claim(), Verdict.FAILED)
    store.settle(parent)
    child = store.open(new_job(parent=parent, leftovers=frozenset({Verdict.FAILED}))).id
    store.begin_planning(child, holder="w1", lasting=MINUTE)
    while not store.copy_leftovers(child, limit=10):
        pass
    steps.work_off(steps.planned(child))

    assert items_of(store) == {"failed": 2, "deleted": 2}


def test_what_was_counted_stays_when_its_job_is_pruned_and_its_items_forgotten(
    store: Store, steps: Steps
) -> None:
    job = steps.running(4, retain_for=timedelta(days=1))
    steps.work_off(job)
    before = backlog(store)
    while not store.prune(job, limit=3):
        pass

    assert backlog(store) == before
    assert items_of(store) == {"deleted": 4}


def test_calls_are_counted_by_answer_and_length(store: Store, steps: Steps) -> None:
    steps.running(4)
    made = (
        Call(Answer.OK, timedelta(milliseconds=5)),
        Call(Answer.OK, timedelta(milliseconds=30)),
        Call(Answer.LOST, timedelta(minutes=2)),
        # Nothing was sent, so its length tells nothing.
        Call(Answer.PACED, SECOND),
    )
    store.record(steps.claim().lease, [], call=CallNote(SECOND, answered=True, calls=made))

    assert calls_of(store) == {"ok": 2, "lost": 1, "paced": 1}
    totals = backlog(store).totals
    assert [place for place, count in enumerate(totals.lengths) if count] == [0, 3, len(BOUNDS)]
    assert totals.took == timedelta(minutes=2, milliseconds=35)


def test_the_age_of_the_oldest_batch_is_counted_from_when_it_was_free(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(4, size=2)
    clock.advance(SECOND * 5)
    assert backlog(store).oldest == SECOND * 5
    assert backlog(store).answered is None

    store.pause(job, Who())
    assert backlog(store).oldest is None
    clock.advance(MINUTE)
    store.resume(job, Who())
    clock.advance(SECOND)
    assert backlog(store).oldest == SECOND
    assert backlog(store).ready == 2

    steps.claim(appetite(call_items=4))
    clock.advance(SECOND * 2)
    assert backlog(store).oldest is None
    assert backlog(store).answered == SECOND * 2


def test_a_batch_that_rests_is_free_when_its_rest_is_over(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(2)
    claim = steps.claim()
    store.record(claim.lease, [Returned(claim.batches[0].batch, rest=MINUTE)])
    assert backlog(store).oldest is None
    assert backlog(store).ready == 1
    clock.advance(MINUTE + SECOND)

    assert backlog(store).oldest == SECOND


def test_what_holds_a_target_back_is_told(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(2)
    store.close_target("crm", reason="the token is wrong", rest=MINUTE)

    note = backlog(store).note
    assert note == store.target_note("crm")
    assert (note.closed_reason, note.rests_for) == ("the token is wrong", MINUTE)


def test_the_clock_and_the_looks_of_the_workers_are_told(store: Store, clock: Clock) -> None:
    store.note_tick()
    clock.advance(SECOND)
    store.look(every=SECOND)
    clock.advance(SECOND)

    measures = store.measure()
    assert (measures.ticked, measures.looked) == (SECOND * 2, SECOND)
