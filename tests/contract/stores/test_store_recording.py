"""What every store keeps of what became of items: ranges, strays, splits, fences."""

from dataclasses import replace
from datetime import timedelta

import pytest

from api_adapters.base import Breach, Evidence, Verdict, Warned
from tests.contract.stores.steps import Steps
from tests.factories import (
    MINUTE,
    SECOND,
    Clock,
    all_marked,
    appetite,
    final,
    landed,
    positions,
    refused_at_the_door,
)
from worker.batch import Claimed, Returned, give_back
from worker.errors import LeaseLost
from worker.item import Mark
from worker.store.base import Breached, CallNote, Claim, Store, Who

DOUBT = Mark(doubt=True, calls=1, code="timeout", message="no answer")


def kept(claimed: Claimed, **marks: Mark) -> Returned:
    """Given back as it was but for some positions, named p0, p1, ..."""
    all_marks = {item.position: item.mark for item in claimed.items}
    return give_back(claimed, all_marks | {int(name[1:]): mark for name, mark in marks.items()})


def split_at(returned: Returned, position: int) -> Returned:
    return replace(returned, split_at=position)


def marks_of(claim: Claim) -> dict[int, Mark]:
    return {item.position: item.mark for one in claim.batches for item in one.items}


def test_one_verdict_for_all_ends_a_range(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(3)
    claim = steps.claim()
    decided = clock.advance()

    noted = steps.record(claim)

    assert (noted.jobs, noted.lost) == ((job,), 0)
    assert store.status(job).batches["done"] == 1
    assert [one.mark for one in steps.outcomes(job)] == [final()] * 3
    assert {one.decided_at for one in steps.outcomes(job)} == {decided}
    steps.adds_up(job)


def test_all_that_is_known_of_an_outcome_is_kept(store: Store, steps: Steps) -> None:
    job = steps.running(2)
    claim = steps.claim()
    marks = [
        Mark(Verdict.DENIED, Evidence.ITEM, "E17", "not yours", doubt=True, calls=3),
        Mark(Verdict.ABSENT, Evidence.PROBE, None, None, calls=2),
    ]

    steps.record_marks(claim, [dict(enumerate(marks))])

    assert [one.mark for one in steps.outcomes(job)] == marks


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_counted(store: Store, steps: Steps, verdict: Verdict) -> None:
    job = steps.running(3)
    claim = steps.claim()

    steps.record_marks(claim, [{0: final(verdict), 1: final(verdict), 2: final()}])

    assert store.tally(job)[verdict] == (3 if verdict is Verdict.DELETED else 2)
    steps.adds_up(job)


def test_items_that_differ_from_the_commonest_are_strays(store: Store, steps: Steps) -> None:
    job = steps.running(5)
    claim = steps.claim()

    steps.record_marks(
        claim,
        [all_marked(claim.batches[0], final()) | {1: final(Verdict.ABSENT), 3: final(code="x")}],
    )

    assert steps.verdicts(job)[1] == "absent"
    assert [one.mark.code for one in steps.outcomes(job)] == [None, None, None, "x", None]
    assert (store.tally(job)[Verdict.DELETED], store.tally(job)[Verdict.ABSENT]) == (4, 1)
    steps.adds_up(job)


def test_after_a_partial_answer_only_open_items_come_again(store: Store, steps: Steps) -> None:
    job = steps.running(5)
    first = steps.claim()
    steps.record_marks(first, [all_marked(first.batches[0], final()) | {1: DOUBT, 4: DOUBT}])
    steps.adds_up(job)

    second = steps.claim()

    assert marks_of(second) == {1: DOUBT, 4: DOUBT}
    assert second.batches[0].marks.keys() == {1, 4}
    assert second.batches[0].batch.mark == final()
    steps.record_marks(second, [{1: final(Verdict.ABSENT)}])
    steps.adds_up(job)
    assert marks_of(steps.claim()) == {4: DOUBT}


def test_a_range_most_of_which_is_open_takes_its_verdict_later(store: Store, steps: Steps) -> None:
    job = steps.running(5)
    first = steps.claim()
    steps.record_marks(first, [all_marked(first.batches[0], DOUBT) | {2: final()}])
    assert steps.verdicts(job) == {2: "deleted"}
    steps.adds_up(job)

    second = steps.claim()

    assert marks_of(second) == dict.fromkeys((0, 1, 3, 4), DOUBT)
    steps.record_marks(second, [dict.fromkeys((0, 1, 3, 4), final(Verdict.ABSENT))])
    assert set(steps.verdicts(job).values()) == {"deleted", "absent"}
    steps.adds_up(job)


def test_a_verdict_of_a_range_is_written_once(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(3)
    first = steps.claim()
    steps.record_marks(first, [all_marked(first.batches[0], final()) | {2: DOUBT}])
    before = steps.outcomes(job)
    clock.advance()

    second = steps.claim()
    overwriting = replace(kept(second.batches[0], p2=final(Verdict.ABSENT)))
    overwriting = replace(overwriting, batch=replace(overwriting.batch, mark=final(Verdict.FAILED)))
    store.record(second.lease, [overwriting])

    assert steps.outcomes(job)[:2] == before
    steps.adds_up(job)


def test_a_verdict_of_a_stray_is_written_once(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(4)
    first = steps.claim()
    steps.record_marks(
        first, [all_marked(first.batches[0], final()) | {1: final(Verdict.DENIED), 2: DOUBT}]
    )
    before = steps.outcomes(job)
    clock.advance()

    second = steps.claim()
    returned = kept(second.batches[0])
    store.record(second.lease, [replace(returned, strays={1: final(Verdict.FAILED)})])

    assert steps.outcomes(job) == before
    steps.adds_up(job)


def test_a_late_record_is_refused_by_the_fence(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(3)
    late = steps.claim(lasting=MINUTE)
    clock.advance(MINUTE + SECOND)
    store.rescue(lambda _, claimed: kept(claimed), limit=10)
    steps.record(steps.claim(), Verdict.ABSENT)

    with pytest.raises(LeaseLost):
        steps.record(late, Verdict.DELETED)
    assert set(steps.verdicts(job).values()) == {"absent"}
    steps.adds_up(job)


def test_a_late_record_is_refused_while_another_has_the_batch(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(3)
    late = steps.claim(lasting=MINUTE)
    clock.advance(MINUTE + SECOND)
    store.rescue(lambda _, claimed: kept(claimed), limit=10)
    steps.claim()

    with pytest.raises(LeaseLost):
        steps.record(late)


def test_answers_are_taken_from_a_lease_that_ran_out_and_was_not_rescued(
    steps: Steps, clock: Clock
) -> None:
    job = steps.running(3)
    claim = steps.claim(lasting=MINUTE)
    clock.advance(MINUTE * 5)

    assert steps.record(claim).jobs == (job,)


def test_a_record_twice_is_refused_and_changes_nothing(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    claim = steps.claim()
    steps.record(claim)

    with pytest.raises(LeaseLost):
        steps.record(claim, Verdict.FAILED)
    assert set(steps.verdicts(job).values()) == {"deleted"}


def test_batches_of_one_claim_are_recorded_one_by_one(store: Store, steps: Steps) -> None:
    job = steps.running(4, size=2)
    claim = steps.claim(appetite(call_items=4))
    left, right = claim.batches

    store.record(claim.lease, [give_back(left, all_marked(left, final()))])
    assert store.target_note("crm").live_leases == 1
    noted = store.record(
        claim.lease,
        [give_back(one, all_marked(one, final())) for one in (left, right)],
    )

    assert noted.lost == 1
    assert store.target_note("crm").live_leases == 0
    assert len(steps.verdicts(job)) == 4


def test_a_refused_record_leaves_no_trace(store: Store, steps: Steps) -> None:
    steps.running(20)
    claim = steps.claim()
    steps.record(claim)

    with pytest.raises(LeaseLost):
        store.record(
            claim.lease,
            [give_back(one, all_marked(one, final())) for one in claim.batches],
            call=CallNote(SECOND, answered=True, rest=MINUTE),
        )
    assert store.target_note("crm").rests_for is None


def test_what_was_given_back_unsent_is_as_it_was(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    first = steps.claim()

    assert steps.give_back_unsent(first).jobs == ()

    second = steps.claim()
    assert second.batches == first.batches
    assert second.lease != first.lease
    assert steps.verdicts(job) == {}


def test_the_numbers_of_a_batch_are_kept(store: Store, steps: Steps) -> None:
    steps.running(3)
    claim = steps.claim()
    returned = kept(claim.batches[0])
    numbers = {"failures": 2, "company": 3, "told_to_wait": timedelta(seconds=90)}

    store.record(claim.lease, [replace(returned, batch=replace(returned.batch, **numbers))])

    batch = steps.claim().batches[0].batch
    assert (batch.failures, batch.company, batch.told_to_wait) == tuple(numbers.values())


def test_a_split_leaves_two_halves_with_the_same_numbers(store: Store, steps: Steps) -> None:
    job = steps.running(5)
    claim = steps.claim()
    returned = give_back(claim.batches[0], all_marked(claim.batches[0], DOUBT))
    numbers = {"failures": 2, "company": 1, "told_to_wait": timedelta(seconds=9)}
    returned = replace(returned, batch=replace(returned.batch, **numbers))

    store.record(claim.lease, [split_at(returned, 2)])

    assert store.status(job).batches == {"ready": 2, "leased": 0, "done": 0, "split": 1}
    # Each is to be sent alone.
    left, right = steps.claim(appetite(call_items=100, calls=2)).batches
    assert [positions([left]), positions([right])] == [[0, 1], [2, 3, 4]]
    for half in (left, right):
        batch = half.batch
        assert (batch.failures, batch.company, batch.told_to_wait) == tuple(numbers.values())
        assert {item.mark for item in half.items} == {DOUBT}
        assert batch.items == len(half.items)


def test_a_split_keeps_what_is_finished_in_both_halves(store: Store, steps: Steps) -> None:
    rows = [refused_at_the_door(0, "?"), *(landed(n, f"k{n}") for n in (1, 2, 4, 5, 6, 9))]
    job = steps.running(rows)
    claim = steps.claim()
    returned = kept(
        claim.batches[0], p1=final(), p2=DOUBT, p4=final(), p5=final(), p6=DOUBT, p9=final()
    )

    store.record(claim.lease, [split_at(returned, 6)])
    before = steps.verdicts(job)
    steps.adds_up(job)

    assert before == dict.fromkeys((1, 4, 5, 9), "deleted") | {0: "rejected"}
    left, right = steps.claim(appetite(call_items=100)).batches
    assert (positions([left]), positions([right])) == ([2], [6])
    assert (left.batch.items, right.batch.items) == (5, 2)
    assert left.batch.strays == {None: 1, Verdict.REJECTED: 1}
    assert right.batch.strays == {None: 1}


def test_a_half_without_open_items_is_done(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    claim = steps.claim()
    returned = kept(claim.batches[0], p2=final(), p3=final())

    store.record(claim.lease, [split_at(returned, 2)])

    assert store.status(job).batches == {"ready": 1, "leased": 0, "done": 1, "split": 1}
    assert positions(steps.claim().batches) == [0, 1]
    steps.adds_up(job)


def test_halves_are_split_again_down_to_the_item(store: Store, steps: Steps) -> None:
    job = steps.running(8)
    for _ in range(3):
        claim = steps.claim(appetite(call_items=100))
        store.record(
            claim.lease,
            [split_at(kept(one), one.items[len(one.items) // 2].position) for one in claim.batches],
        )
        steps.adds_up(job)

    claim = steps.claim(appetite(call_items=100))
    assert [positions([one]) for one in claim.batches] == [[n] for n in range(8)]
    assert store.status(job).batches["split"] == 7


def test_a_half_rests_as_the_whole_would(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    claim = steps.claim()

    store.record(claim.lease, [replace(split_at(kept(claim.batches[0]), 2), rest=MINUTE)])

    assert store.status(job).waiting_for == "retry_at"


def test_breaches_do_not_keep_a_record_from_being_written(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    claim = steps.claim()
    seen = [Breached(job, Warned(Breach.STRANGER, f"a stranger {n}")) for n in range(12)]

    store.record(
        claim.lease,
        [give_back(one, all_marked(one, final())) for one in claim.batches],
        breaches=seen,
    )

    assert len(steps.verdicts(job)) == 3


# -- leases that ran out -----------------------------------------------------


def doubted(_: str, claimed: Claimed) -> Returned:
    marks = {item.position: replace(item.mark, doubt=True) for item in claimed.items}
    returned = give_back(claimed, marks)
    return replace(returned, batch=replace(returned.batch, failures=1))


def test_what_a_lost_lease_had_is_given_back_in_doubt(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(4, size=2)
    steps.claim(appetite(call_items=4), lasting=MINUTE)
    clock.advance(MINUTE + SECOND)
    told: list[str] = []

    noted = store.rescue(
        lambda target, claimed: told.append(target) or doubted(target, claimed),  # type: ignore[func-returns-value]
        limit=10,
    )

    assert (noted.jobs, told) == ((), ["crm", "crm"])
    claim = steps.claim(appetite(call_items=4))
    assert all(mark.doubt for mark in marks_of(claim).values())
    assert [one.batch.failures for one in claim.batches] == [1, 1]
    lost = [event for event in store.events(None, limit=9) if event.kind == "lease.lost"]
    assert [event.target for event in lost] == ["crm"]
    steps.adds_up(job)


def test_a_live_lease_is_not_rescued(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running()
    steps.claim(lasting=MINUTE)
    clock.advance(MINUTE - SECOND)

    store.rescue(doubted, limit=10)

    assert store.status(job).batches["leased"] == 1


def test_the_oldest_lost_leases_are_rescued_first(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(30)
    later = steps.claim(lasting=MINUTE * 2)
    sooner = steps.claim(lasting=MINUTE)
    clock.advance(MINUTE * 3)

    store.rescue(doubted, limit=1)

    with pytest.raises(LeaseLost):
        steps.record(sooner)
    steps.record(later)
    steps.adds_up(job)


def test_a_look_tells_of_lost_leases(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running()
    steps.claim(lasting=MINUTE)
    before = store.look(every=SECOND)
    clock.advance(MINUTE + SECOND)
    after = store.look(every=SECOND)
    store.rescue(doubted, limit=10)
    clock.advance()
    rescued = store.look(every=SECOND)

    looks = (before, after, rescued)
    assert [look.has_lost_leases for look in looks if look] == [False, True, False]


def test_a_lease_that_was_lost_on_the_last_item_ends_it(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(2)
    steps.claim(lasting=MINUTE)
    clock.advance(MINUTE + SECOND)

    noted = store.rescue(
        lambda _, one: give_back(one, all_marked(one, final(Verdict.UNKNOWN))), limit=10
    )

    assert noted.jobs == (job,)
    assert store.settle(job) is not None


def test_what_a_lost_lease_had_is_unknown_once_the_job_was_cancelled(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(2)
    steps.claim(lasting=MINUTE)
    store.cancel(job, Who())
    clock.advance(MINUTE + SECOND)

    store.rescue(doubted, limit=10)

    assert steps.verdicts(job) == {0: "unknown", 1: "unknown"}
    assert steps.end(job).job.state.value == "cancelled"
