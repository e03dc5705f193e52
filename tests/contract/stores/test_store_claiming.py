"""What every store lets a worker take, in which turn, and for how long."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

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
    positions,
)
from worker.batch import Returned, give_back
from worker.errors import LeaseLost
from worker.item import Mark
from worker.store.base import (
    Appetite,
    Busy,
    CallNote,
    Claim,
    LeaseId,
    Noted,
    Record,
    Renewed,
    Store,
    Who,
)


def test_a_claim_takes_a_batch_with_its_items(store: Store, steps: Steps) -> None:
    job = steps.running(["a", {"id": 7}])

    claim = steps.claim()

    (claimed,) = claim.batches
    assert (claimed.batch.job, claimed.batch.seq) == (job, store.job(job).seq)
    assert (claimed.batch.first, claimed.batch.last, claimed.batch.items) == (0, 1, 2)
    assert [item.item for item in claimed.items] == ["a", {"id": 7}]
    assert [item.mark for item in claimed.items] == [Mark(), Mark()]
    assert claimed.marks == {}
    assert claim.target == "crm"


def test_what_is_claimed_is_not_claimed_again(store: Store, steps: Steps) -> None:
    job = steps.running()
    steps.claim()

    assert steps.try_claim() == Busy(None)
    assert store.status(job).batches == {"ready": 0, "leased": 1, "done": 0, "split": 0}


def test_a_claim_tells_how_many_others_have_beside_it(store: Store, steps: Steps) -> None:
    steps.running(4, size=1)

    told = [
        store.claim(
            "crm",
            fingerprint="f1",
            holder=holder,
            lasting=MINUTE,
            appetite=lambda _: appetite(call_items=1),
        )
        for holder in ("w1", "w1", "w2", "w1")
    ]

    assert [one.beside for one in told if isinstance(one, Claim)] == [0, 0, 2, 1]


def test_a_claim_takes_what_fills_its_calls(steps: Steps) -> None:
    steps.running(10, size=2)

    assert positions(steps.claim(appetite(call_items=4, calls=2)).batches) == list(range(8))


def test_a_claim_takes_no_batch_that_would_overfill_it(steps: Steps) -> None:
    steps.running(9, size=3)

    assert positions(steps.claim(appetite(call_items=4, calls=1)).batches) == [0, 1, 2]


def test_a_claim_takes_one_batch_at_least(steps: Steps) -> None:
    steps.running(10, size=10)

    assert len(positions(steps.claim(appetite(call_items=3, calls=1)).batches)) == 10


def test_duplicates_leave_holes_in_what_is_claimed(steps: Steps) -> None:
    steps.running(["a", "b", "a", "c"])

    (claimed,) = steps.claim().batches

    assert [item.position for item in claimed.items] == [0, 1, 3]
    assert (claimed.batch.last, claimed.batch.items) == (3, 3)


def test_one_claim_takes_small_batches_of_many_jobs(store: Store, steps: Steps) -> None:
    jobs = [steps.running([f"only-{number}"]) for number in range(5)]

    claim = steps.claim(appetite(call_items=100))

    assert [one.batch.job for one in claim.batches] == jobs
    noted = steps.record(claim)
    assert set(noted.jobs) == set(jobs)
    assert all(store.settle(job) for job in jobs)


def test_only_jobs_of_the_same_fingerprint_are_served(steps: Steps) -> None:
    steps.running(fingerprint="old")

    assert steps.try_claim(fingerprint="new") == Busy(None)
    assert steps.claim(fingerprint="old").batches


def test_only_jobs_of_the_target_are_served(steps: Steps) -> None:
    steps.running(target="erp")

    assert steps.try_claim(target="crm") == Busy(None)
    assert steps.claim(target="erp").target == "erp"


def test_a_job_of_one_item_behind_a_large_one_is_served_next(steps: Steps) -> None:
    steps.running(100)
    steps.claim()
    small = steps.running(["only"])

    assert steps.claim().batches[0].batch.job == small


def test_jobs_are_served_in_turns(steps: Steps) -> None:
    first, second = steps.running(30), steps.running(30)

    served = [steps.claim().batches[0].batch.job for _ in range(4)]

    assert served == [first, second, first, second]


def test_a_job_that_was_paused_for_long_does_not_catch_up(store: Store, steps: Steps) -> None:
    paused, other = steps.running(100), steps.running(100)
    store.pause(paused, Who())
    for _ in range(5):
        steps.record(steps.claim())
    store.resume(paused, Who())

    served = [steps.claim(appetite(places=9)).batches[0].batch.job for _ in range(3)]

    assert served[0] == paused
    assert other in served


def test_a_target_has_only_so_many_places(steps: Steps) -> None:
    steps.running(50)
    claims = [steps.claim(appetite(places=2)) for _ in range(2)]

    assert steps.try_claim(appetite(places=2)) == Busy(None)
    steps.record(claims[0])
    assert steps.claim(appetite(places=2)).batches


def test_places_are_counted_for_each_target(steps: Steps) -> None:
    steps.running(20, target="crm")
    steps.running(20, target="erp")
    steps.claim(appetite(places=1), target="crm")

    assert steps.claim(appetite(places=1), target="erp").batches


def test_a_lease_that_ran_out_takes_no_place(steps: Steps, clock: Clock) -> None:
    steps.running(20)
    steps.claim(appetite(places=1), lasting=MINUTE)
    clock.advance(MINUTE + SECOND)

    assert steps.claim(appetite(places=1)).batches


def test_a_lease_number_is_never_used_again(steps: Steps) -> None:
    steps.running(30)
    numbers = set()
    for _ in range(3):
        claim = steps.claim()
        numbers.add(claim.lease)
        steps.record(claim)

    assert len(numbers) == 3


def test_a_job_starts_at_its_first_claim(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(20)
    assert store.job(job).started_at is None
    started = clock.advance()
    steps.claim()
    clock.advance()
    steps.claim()

    assert store.job(job).started_at == started


def test_nothing_is_claimed_while_the_target_rests(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(20)
    claim = steps.claim()
    store.record(claim.lease, [], call=CallNote(SECOND, answered=False, rest=MINUTE))
    clock.advance(SECOND)

    assert steps.try_claim() == Busy(MINUTE - SECOND)
    clock.advance(MINUTE - SECOND)
    assert steps.claim().batches


def test_a_shorter_rest_does_not_end_a_longer_one(store: Store, steps: Steps) -> None:
    steps.running(20)
    claim = steps.claim()
    for rest in (MINUTE, SECOND):
        store.record(claim.lease, [], call=CallNote(SECOND, answered=True, rest=rest))

    assert steps.try_claim() == Busy(MINUTE)


def test_a_batch_rests_until_its_moment(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running()
    rest_batch(store, steps, MINUTE)

    assert store.status(job).waiting_for == "retry_at"
    assert steps.try_claim() == Busy(MINUTE)
    clock.advance(MINUTE)
    assert steps.claim().batches


def test_the_wait_is_until_the_first_batch_is_due(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(20)
    rest_batch(store, steps, MINUTE)
    rest_batch(store, steps, SECOND * 10)
    clock.advance(SECOND)

    assert steps.try_claim() == Busy(SECOND * 9)


def rest_batch(store: Store, steps: Steps, rest: timedelta) -> None:
    claim = steps.claim()
    returned = give_back(claim.batches[0], all_marked(claim.batches[0], Mark()))
    store.record(claim.lease, [replace(returned, rest=rest)])


def test_a_renewed_lease_lasts_longer(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running()
    claim = steps.claim(lasting=MINUTE)
    clock.advance(SECOND * 50)

    assert store.renew(claim.lease, lasting=MINUTE).running == frozenset({job})
    clock.advance(SECOND * 50)
    look = store.look(every=SECOND)
    assert look is not None
    assert not look.has_lost_leases


@pytest.mark.parametrize("wish", ["pause", "cancel"])
def test_a_renewal_tells_which_jobs_still_want_to_run(
    store: Store, steps: Steps, wish: str
) -> None:
    still, wished = steps.running(["a"]), steps.running(["b"])
    claim = steps.claim()
    getattr(store, wish)(wished, Who())

    assert store.renew(claim.lease, lasting=MINUTE).running == frozenset({still})
    assert store.see([claim.lease])[claim.lease].running == frozenset({still})


def test_a_lease_that_ended_is_not_renewed(store: Store, steps: Steps) -> None:
    steps.running()
    claim = steps.claim()
    steps.record(claim)

    with pytest.raises(LeaseLost):
        store.renew(claim.lease, lasting=MINUTE)
    with pytest.raises(LeaseLost):
        store.renew(LeaseId(999), lasting=MINUTE)
    assert store.see([claim.lease])[claim.lease] == Renewed(frozenset())


def test_a_look_does_not_lengthen_a_lease(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running()
    claim = steps.claim()
    clock.advance(MINUTE * 0.9)
    store.see([claim.lease])[claim.lease]
    clock.advance(MINUTE * 0.2)

    look = store.look(every=SECOND)

    assert look is not None
    assert look.has_lost_leases


def test_the_time_of_a_call_is_smoothed(store: Store, steps: Steps) -> None:
    steps.running(40)
    seen = []
    for took in (1000, 2000, 2000):
        claim = steps.claim()
        seen.append(claim.call_time)
        store.record(
            claim.lease,
            [give_back(one, all_marked(one, final())) for one in claim.batches],
            call=CallNote(timedelta(milliseconds=took), answered=True),
        )

    assert seen == [None, timedelta(seconds=1), timedelta(seconds=1.3)]


def test_the_appetite_is_given_the_time_of_a_call(store: Store, steps: Steps) -> None:
    steps.running(40)
    store.record(steps.claim().lease, [], call=CallNote(SECOND, answered=True))
    told: list[timedelta | None] = []

    store.claim(
        "crm",
        fingerprint="f1",
        holder="w1",
        lasting=MINUTE,
        appetite=lambda time: told.append(time) or appetite(),  # type: ignore[func-returns-value]
    )

    # A store that would have to wait for others looks first.
    assert set(told) == {SECOND}


def claim_many(
    store: Store, wants: Appetite, *, hands: int, answers_bell: bool = False
) -> Sequence[Claim | Busy]:
    return store.claim_many(
        "crm",
        hands=hands,
        fingerprint="f1",
        holder="w1",
        lasting=MINUTE,
        appetite=lambda _: wants,
        answers_bell=answers_bell,
    )


def test_several_hands_take_what_each_would_take_after_the_other(
    store: Store, steps: Steps
) -> None:
    job = steps.running(60)
    wants = appetite(call_items=10, calls=2, places=9)

    taken = claim_many(store, wants, hands=4)

    claims = [one for one in taken if isinstance(one, Claim)]
    firsts = [[one.batch.first for one in claim.batches] for claim in claims]
    assert firsts == [[0, 10], [20, 30], [40, 50]]
    assert taken[3:] == [Busy()]
    assert len({claim.lease for claim in claims}) == 3
    for claim in claims:
        steps.record(claim)
    assert store.settle(job) is not None


def test_hands_that_begin_together_end_apart(store: Store, steps: Steps) -> None:
    steps.running(400)
    wants = replace(appetite(call_items=10, calls=8, places=9), spread=0.5)

    taken = claim_many(store, wants, hands=4)

    assert [len(one.batches) for one in taken if isinstance(one, Claim)] == [5, 6, 7, 8]


def test_all_places_of_a_slow_target_end_together(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(["first", *keys(320)])
    known = steps.claim(appetite(call_items=1))
    store.record(known.lease, [], call=CallNote(SECOND, answered=True))
    steps.record(known)
    wants = replace(appetite(call_items=10, calls=20, places=4, is_slow=True), least=1, spread=0.5)

    first, second = claim_many(store, wants, hands=2)
    clock.advance(SECOND * 2)
    third = steps.claim(wants)
    clock.advance(SECOND * 6)
    later = steps.claim(replace(wants, spread=0.0))

    # Of 32 calls an even share of eight, of which the first of two that begin takes
    # less. Two seconds later eighteen are ready and four and six undone; after six
    # more, eleven and one, and then the first two are late and count as done.
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)
    assert [len(one.batches) for one in (first, second, third, later)] == [6, 8, 7, 3]


def test_where_jobs_take_turns_one_hand_takes_something(store: Store, steps: Steps) -> None:
    big, small = steps.running(400), steps.running(["small"])
    wants = appetite(call_items=10, calls=2, places=4)

    first, *others = claim_many(store, wants, hands=4, answers_bell=True)

    assert isinstance(first, Claim)
    assert {one.batch.job for one in first.batches} == {big}
    # The others may come at once, while there is more and a place is free.
    assert others == [Busy(timedelta(), is_answered=True)] * 3
    assert steps.claim(wants).batches[0].batch.job == small
    # All places but two are taken by now.
    assert [isinstance(one, Claim) for one in claim_many(store, wants, hands=3)] == [
        True,
        True,
        False,
    ]


def test_where_keys_are_protected_one_hand_takes_something(store: Store, steps: Steps) -> None:
    steps.running(60)
    store.protect("crm", {bytes(16): '"kept"'}, Who())

    taken = claim_many(store, appetite(call_items=10, places=4), hands=3)

    assert [isinstance(one, Claim) for one in taken] == [True, False, False]


def test_what_is_recorded_again_leaves_the_rest_of_its_lease_alone(
    store: Store, steps: Steps
) -> None:
    job = steps.running(30)
    claim = steps.claim(appetite(call_items=10, calls=3))
    first, *rest = [
        give_back(one, all_marked(one, final(Verdict.DELETED))) for one in claim.batches
    ]
    store.record(claim.lease, [first])

    # Its answer did not arrive.
    assert store.record(claim.lease, [first]) == Noted((), lost=1)
    store.record(claim.lease, rest)

    assert store.settle(job) is not None
    with pytest.raises(LeaseLost):
        store.record(claim.lease, rest)


def test_several_hands_take_no_more_places_than_there_are(store: Store, steps: Steps) -> None:
    steps.running(60)
    wants = appetite(call_items=10, places=3)
    steps.claim(wants)

    taken = claim_many(store, wants, hands=4)

    assert [isinstance(one, Claim) for one in taken] == [True, True, False, False]
    assert isinstance(steps.try_claim(wants), Busy)


def test_several_hands_each_end_their_lease_alone(store: Store, steps: Steps) -> None:
    steps.running(20)
    first, second = claim_many(store, appetite(call_items=10, places=9), hands=2)
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)
    steps.record(first)

    with pytest.raises(LeaseLost):
        steps.record(first)
    assert store.see([second.lease])[second.lease].running
    steps.record(second)


def test_several_leases_are_recorded_together_each_with_its_own_fate(
    store: Store, steps: Steps
) -> None:
    jobs = [steps.running(["a"]), steps.running(["b"]), steps.running(["c"])]
    claims = [steps.claim(appetite(call_items=1, places=3)) for _ in jobs]
    records = [
        Record(claim.lease, [give_back(one, all_marked(one, final(Verdict.DELETED)))])
        for claim in claims
        for one in claim.batches
    ]
    store.record_many(records[:1])
    note = CallNote(SECOND, answered=True)

    answers = store.record_many([replace(one, call=note) for one in records])

    assert isinstance(answers[0], LeaseLost)
    assert answers[1:] == [Noted((job,)) for job in jobs[1:]]
    assert store.measure().backlogs["crm"].totals.items[Verdict.DELETED] == 3
    assert [store.settle(job) is not None for job in jobs] == [True] * 3


def test_what_is_left_of_small_jobs_waits_for_others(store: Store, steps: Steps) -> None:
    for number in range(6):
        steps.running([f"k{number}"])
    wants = replace(appetite(call_items=4, places=9), patience=SECOND)

    taken = claim_many(store, wants, hands=2)

    assert [isinstance(one, Claim) for one in taken] == [True, False]


def test_several_hands_that_find_nothing_are_told_why(store: Store, steps: Steps) -> None:
    steps.running(10)
    store.rest("crm", length=SECOND)

    assert claim_many(store, appetite(), hands=2) == [Busy(SECOND)] * 2


def test_several_hands_call_for_half_of_the_free_places(store: Store, steps: Steps) -> None:
    steps.running(200)

    taken = store.claim_many(
        "crm",
        hands=2,
        fingerprint="f1",
        holder="w1",
        lasting=MINUTE,
        appetite=lambda _: appetite(call_items=10, places=8, is_slow=True),
        answers_bell=True,
    )

    assert [one.bells for one in taken if isinstance(one, Claim)] == [3, 0]


def test_a_target_answers_for_a_minute_after_a_call(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(60)
    first = steps.claim(appetite(places=9))
    store.record(first.lease, [], call=CallNote(SECOND, answered=True))
    second = steps.claim(appetite(places=9))
    clock.advance(MINUTE + SECOND)
    third = steps.claim(appetite(places=9))

    assert [one.target_answers for one in (first, second, third)] == [False, True, False]


def test_an_unanswered_call_is_no_sign_of_life(store: Store, steps: Steps) -> None:
    steps.running(60)
    store.record(steps.claim().lease, [], call=CallNote(SECOND, answered=False))

    assert not steps.claim().target_answers


def test_a_closed_target_lets_nothing_be_claimed_until_it_was_rested(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(60)
    assert store.close_target("crm", reason="login", rest=MINUTE) == timedelta()
    clock.advance(SECOND * 30)

    assert store.close_target("crm", reason="login again", rest=MINUTE) == SECOND * 30
    assert steps.try_claim() == Busy(MINUTE)
    assert store.status(job).waiting_for == "circuit"
    note = store.target_note("crm")
    assert (note.closed_reason, note.closed_for) == ("login again", SECOND * 30)


def test_an_answered_call_opens_a_closed_target(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(60)
    store.close_target("crm", reason="login", rest=MINUTE)
    clock.advance(MINUTE)
    claim = steps.claim()

    store.record(claim.lease, [], call=CallNote(SECOND, answered=True))

    assert store.target_note("crm").closed_reason is None
    assert store.close_target("crm", reason="login", rest=MINUTE) == timedelta()


def test_a_paused_job_is_not_claimed(store: Store, steps: Steps) -> None:
    job = steps.running()
    store.pause(job, Who())
    assert steps.try_claim() == Busy(None)
    store.resume(job, Who())

    assert steps.claim().batches


def test_a_job_that_ends_early_is_not_claimed(store: Store, steps: Steps) -> None:
    for job in (steps.running(), steps.running()):
        store.cancel(job, Who())

    assert steps.try_claim() == Busy(None)


def test_a_claim_takes_at_most_two_thousand_batches(steps: Steps) -> None:
    steps.running(keys(2_010), size=1)

    assert len(steps.claim(appetite(call_items=5_000)).batches) == 2_000
    assert len(steps.claim(appetite(call_items=5_000)).batches) == 10


def test_what_may_have_little_company_takes_as_much_of_the_calls(
    store: Store, steps: Steps
) -> None:
    steps.running(["first", *keys(24)], size=1)
    known = steps.claim(appetite(call_items=1))
    store.record(known.lease, [], call=CallNote(SECOND, answered=True))
    steps.record(known)
    claim = steps.claim(appetite(call_items=100))
    companies = [1] * 16 + [2] * 8
    less = zip(claim.batches, companies, strict=True)
    store.record(claim.lease, [Returned(replace(one.batch, company=most)) for one, most in less])
    wants = replace(appetite(call_items=10, calls=4, places=6), least=4)

    # As many calls as are wanted, and not as many items.
    assert len(steps.claim(wants).batches) == 4
    assert len(steps.claim(replace(wants, calls=3, least=3)).batches) == 3
    # An even share of nine alone and eight in pairs; seven calls are undone.
    slow = replace(wants, calls=20, least=1, is_slow=True)
    assert len(steps.claim(slow).batches) == 4
    assert [len(steps.claim(wants).batches) for _ in range(3)] == [4, 7, 2]


def test_a_later_claim_of_the_same_worker_leaves_the_bell_unanswered(
    store: Store, steps: Steps
) -> None:
    steps.running(30)
    assert steps.claim(appetite(call_items=10, calls=1)).bells

    again = steps.claim(appetite(call_items=10, calls=1), answers_bell=False)

    assert not again.bells
    assert not store.may_ring("crm")
