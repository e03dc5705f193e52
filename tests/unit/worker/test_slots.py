"""Which of a process's threads may work on which target."""

from contextlib import ExitStack

import pytest

from tests.factories import Seconds
from worker.slots import ENOUGH_TO_SPARE, KEPT_FOR_CONTROL, REMEMBERED, Slot, Slots, Turned


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def held() -> ExitStack:
    """The slices that are at work."""
    return ExitStack()


def enter(held: ExitStack, slots: Slots, target: str, times: int = 1) -> list[bool]:
    return [held.enter_context(slots.enter(target)) for _ in range(times)]


def test_two_slots_are_kept_for_control(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)

    granted = [enter(held, slots, f"target {number}") for number in range(12)]

    assert granted.count([True]) == 10 - KEPT_FOR_CONTROL


def test_one_of_many_slots_is_kept_for_a_target_that_has_none(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(ENOUGH_TO_SPARE + KEPT_FOR_CONTROL, clock=clock)

    assert enter(held, slots, "slow", 10).count(True) == ENOUGH_TO_SPARE - 1
    clock.now += REMEMBERED
    assert enter(held, slots, "quick", 2) == [True, False]


def test_of_few_slots_none_is_kept(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(ENOUGH_TO_SPARE + KEPT_FOR_CONTROL - 1, clock=clock)

    assert enter(held, slots, "slow", 10).count(True) == ENOUGH_TO_SPARE - 1


def test_a_slot_is_free_again_after_its_slice(clock: Seconds) -> None:
    slots = Slots(3, clock=clock)
    for _ in range(5):
        with slots.enter("crm") as is_free:
            assert is_free


def test_a_single_thread_still_works(clock: Seconds, held: ExitStack) -> None:
    assert enter(held, Slots(1, clock=clock), "crm", 2) == [True, False]


def test_a_target_gets_half_while_another_waits(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    with slots.enter("other"):
        pass

    assert enter(held, slots, "crm", 10).count(True) == 4
    assert enter(held, slots, "other", 10).count(True) == 3


def test_one_that_was_heard_long_ago_does_not_wait(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    with slots.enter("other"):
        pass
    clock.now += REMEMBERED

    assert enter(held, slots, "crm", 10).count(True) == 7


def work(held: ExitStack, slots: Slots, target: str, times: int) -> list[Slot | Turned]:
    return [held.enter_context(slots.work(target)) for _ in range(times)]


def test_a_target_that_found_no_slot_is_told_of_once(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(4, clock=clock)
    enter(held, slots, "crm", 2)
    assert work(held, slots, "other", 3) == [Turned.FULL] * 3

    assert slots.turned_away() == ["other"]
    assert slots.turned_away() == []


def test_a_target_that_found_no_slot_gets_one_when_others_end(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(6, clock=clock)
    enter(held, slots, "crm", 4)
    assert enter(held, slots, "other") == [False]
    held.pop_all().close()

    assert enter(held, slots, "crm", 4).count(True) == 2
    assert enter(held, slots, "other", 4).count(True) == 2


# -- how many slices are of use -----------------------------------------------------


def at_work(found: list[Slot | Turned]) -> list[Slot]:
    return [one for one in found if isinstance(one, Slot)]


def test_a_target_of_which_nothing_is_known_gets_every_slot_but_one(
    clock: Seconds, held: ExitStack
) -> None:
    found = work(held, Slots(10, clock=clock), "crm", 10)

    assert len(at_work(found)) == 10 - KEPT_FOR_CONTROL - 1
    assert found[-1] is Turned.FULL


def test_slices_that_only_take_the_processor_from_each_other_leave(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(20, clock=clock)
    slices = at_work(work(held, slots, "crm", 8))

    stayed = [one.goes_on(calls=100, lasting=1, working=1) for one in slices]

    # The last one stays, whoever that is.
    assert stayed.count(True) == 1
    assert work(held, slots, "crm", 1) == [Turned.ENOUGH]


def test_slices_that_wait_for_their_backend_stay(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    slices = at_work(work(held, slots, "crm", 8))

    assert all(one.goes_on(calls=100, lasting=1, working=0.05) for one in slices)


def test_a_backend_that_becomes_slow_gets_more_slices(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    (first,) = at_work(work(held, slots, "crm", 1))
    first.goes_on(calls=100, lasting=1, working=1)

    for _ in range(20):
        assert first.goes_on(calls=100, lasting=1, working=0.1)

    assert len(at_work(work(held, slots, "crm", 9))) == 6


def test_a_slice_that_left_gives_its_place_back_once(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(20, clock=clock)
    with ExitStack() as before:
        first, second = at_work(work(before, slots, "crm", 2))
        assert not first.goes_on(calls=100, lasting=1, working=1)
        assert second.goes_on(calls=100, lasting=1, working=1)
    (one,) = at_work(work(held, slots, "crm", 1))
    for _ in range(20):
        one.goes_on(calls=100, lasting=3.1, working=1)

    # One, and two more in what it waits.
    assert len(at_work(work(held, slots, "crm", 9))) == 2


def test_the_claims_of_small_jobs_say_little_of_a_large_one(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(20, clock=clock)
    (small,) = at_work(work(held, slots, "crm", 1))
    small.goes_on(calls=100, lasting=0.1, working=0.1)
    assert work(held, slots, "crm", 1) == [Turned.ENOUGH]

    small.begins(calling=1, each=0.01)

    assert len(at_work(work(held, slots, "crm", 17))) == 10


def brief(held: ExitStack, slots: Slots, count: int, *, each: float = 0.01) -> list[Slot]:
    """Slices whose claims use a fifth of the processor, of calls that take so many seconds."""
    slices = at_work(work(held, slots, "rows", count))
    for one in slices:
        one.begins(calling=1, each=each)
        one.goes_on(calls=40, lasting=0.5, working=0.09)
    return slices


@pytest.mark.parametrize(
    ("at_work", "beside", "stay"), [(3, 1, 2), (4, 1, 2), (4, 3, 4), (2, 1, 2), (4, 0, 4)]
)
def test_slices_that_crowd_the_processor_leave_some_to_another_process(
    clock: Seconds, held: ExitStack, at_work: int, beside: int, stay: int
) -> None:
    slices = brief(held, Slots(20, clock=clock), at_work)

    stayed = [one.goes_on(calls=40, lasting=0.5, working=0.09, beside=beside) for one in slices]

    assert stayed.count(True) == stay


def test_slices_whose_calls_are_long_stay_though_others_are_beside(
    clock: Seconds, held: ExitStack
) -> None:
    slices = brief(held, Slots(20, clock=clock), 4, each=0.1)

    assert all(one.goes_on(calls=40, lasting=0.5, working=0.09, beside=1) for one in slices)


def test_a_bell_is_passed_on_where_enough_crowd_the_processor(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(20, clock=clock)
    brief(held, slots, 2)

    first = held.enter_context(slots.work("rows", may_pass=True))
    # It was with the others, and nobody had a processor for it.
    again = held.enter_context(slots.work("rows"))

    assert first is Turned.ENOUGH
    assert isinstance(again, Slot)


def test_a_bell_finds_a_process_that_has_fewer_at_work(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(20, clock=clock)
    (one,) = brief(held, slots, 1)
    for _ in range(5):
        one.goes_on(calls=40, lasting=0.5, working=0.2, beside=2)

    assert isinstance(held.enter_context(slots.work("rows", may_pass=True)), Slot)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_slices_that_wait_for_each_other_are_no_reason_for_more(
    clock: Seconds, held: ExitStack, at_once: int
) -> None:
    slots = Slots(20, clock=clock)
    slices = at_work(work(held, slots, "rows", at_once))
    # Seen on a table: a claim lasts the longer the more there are.
    lasting = {1: 0.23, 2: 0.32, 3: 0.43}

    for _ in range(20):
        for one in slices:
            one.goes_on(calls=20, lasting=lasting[len(slices)], working=0.11)
            slices = [slot for slot in slices if slot.counts]

    more = len(at_work(work(held, slots, "rows", 5)))
    assert len(slices) + more == 2


def test_one_claim_that_waited_for_the_store_is_no_reason_for_a_crowd(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(40, clock=clock)
    (one,) = at_work(work(held, slots, "crm", 1))
    for _ in range(5):
        one.goes_on(calls=20, lasting=0.25, working=0.2)

    one.goes_on(calls=20, lasting=60, working=0.2)

    assert len(at_work(work(held, slots, "crm", 30))) <= 2


def test_of_long_calls_little_is_what_others_make_them_wait(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(40, clock=clock)
    (one,) = at_work(work(held, slots, "crm", 1))
    one.goes_on(calls=10, lasting=1, working=0.1)

    # Ten calls of 95 ms at least, whatever they seem to take.
    assert len(at_work(work(held, slots, "crm", 37))) == 9


def test_another_target_is_heard_of_for_a_while(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    work(held, slots, "crm", 1)
    assert not slots.has_others("crm")

    work(held, slots, "other", 1)

    assert slots.has_others("crm")
    clock.now += REMEMBERED + 1
    assert not slots.has_others("crm")


def test_one_target_says_nothing_of_another(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    (one,) = at_work(work(held, slots, "crm", 1))
    one.goes_on(calls=100, lasting=1, working=1)

    assert len(at_work(work(held, slots, "other", 3))) == 3


def test_whoever_finds_items_and_was_refused_gets_the_next_slot(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(KEPT_FOR_CONTROL + 3, clock=clock)
    with ExitStack() as before:
        work(before, slots, "crm", 3)
        assert enter(held, slots, "crm") == [False]
        # So that the slices that are at work end soon.
        assert slots.has_others("crm")
    assert len(at_work(work(held, slots, "crm", 3))) == 2

    assert enter(held, slots, "crm") == [True]

    assert not slots.has_others("crm")


def test_whoever_finds_items_and_was_refused_gets_the_next_of_many_slots(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(KEPT_FOR_CONTROL + ENOUGH_TO_SPARE, clock=clock)
    with ExitStack() as before:
        assert len(at_work(work(before, slots, "crm", 9))) == ENOUGH_TO_SPARE - 1
        assert enter(held, slots, "crm") == [False]
    assert len(at_work(work(held, slots, "crm", 9))) == ENOUGH_TO_SPARE - 2

    assert enter(held, slots, "crm") == [True]


def test_a_find_that_was_refused_keeps_no_target_from_the_last_of_many_slots(
    clock: Seconds, held: ExitStack
) -> None:
    slots = Slots(KEPT_FOR_CONTROL + ENOUGH_TO_SPARE, clock=clock)
    work(held, slots, "crm", 9)
    assert enter(held, slots, "crm") == [False]

    assert len(at_work(work(held, slots, "erp", 2))) == 1


def test_a_find_takes_no_place_from_those_who_delete(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    (one,) = at_work(work(held, slots, "crm", 1))
    one.goes_on(calls=100, lasting=1, working=1)
    held.pop_all().close()
    assert enter(held, slots, "crm") == [True]

    assert len(at_work(work(held, slots, "crm", 1))) == 1
