"""Which of a process's threads may work on which target."""

from contextlib import ExitStack

import pytest

from worker.slots import KEPT_FOR_CONTROL, REMEMBERED, Slots


class Seconds:
    """A clock that a test moves on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


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

    granted = enter(held, slots, "crm", 10)

    assert granted.count(True) == 10 - KEPT_FOR_CONTROL


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
    assert enter(held, slots, "other", 10).count(True) == 4


def test_one_that_was_heard_long_ago_does_not_wait(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(10, clock=clock)
    with slots.enter("other"):
        pass
    clock.now += REMEMBERED

    assert enter(held, slots, "crm", 10).count(True) == 8


def test_a_target_that_found_no_slot_is_told_of_once(clock: Seconds, held: ExitStack) -> None:
    slots = Slots(4, clock=clock)
    enter(held, slots, "crm", 2)
    enter(held, slots, "other", 3)

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
