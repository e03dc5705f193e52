"""Threads that work beside a slice: in slots of their process, and never longer than it."""

from threading import Event, Semaphore, Thread

import pytest

from worker.crew import Crew
from worker.deleting import Slice
from worker.errors import StoreUnavailable
from worker.slots import KEPT_FOR_CONTROL, Slot, Slots


def nobody() -> None:
    """Nobody waits for a slot."""


def test_a_crew_works_in_as_many_slots_as_are_free() -> None:
    slots = Slots(KEPT_FOR_CONTROL + 3)
    begun, may_end = Semaphore(0), Event()

    def work(*, place: Slot) -> Slice:
        begun.release()
        assert may_end.wait(20)
        return Slice(calls=1)

    with slots.work("crm"), Crew("crm", slots, work=work, has_left=nobody) as crew:
        crew.call(5)
        assert [begun.acquire(timeout=10) for _ in range(2)] == [True, True]
        assert not begun.acquire(timeout=0.05)
        may_end.set()

    assert [one.calls for one in crew.done] == [1, 1]
    # Nobody came by a bell.
    assert slots.turned_away() == []


def test_each_that_ends_lets_others_in() -> None:
    slots = Slots(KEPT_FOR_CONTROL + 2)
    free: list[list[str]] = []

    def work(*, place: Slot) -> Slice:
        with slots.work("erp") as other:
            assert not isinstance(other, Slot)
        return Slice()

    def has_left() -> None:
        free.append(slots.turned_away())

    with slots.work("crm"), Crew("crm", slots, work=work, has_left=has_left) as crew:
        crew.call(1)

    assert free == [["erp"]]


def test_who_leaves_waits_for_the_crew() -> None:
    ended = Event()

    def work(*, place: Slot) -> Slice:
        ended.wait(0.1)
        ended.set()
        return Slice()

    with Crew("crm", Slots(9), work=work, has_left=nobody) as crew:
        crew.call(1)

    assert ended.is_set()
    assert len(crew.done) == 1


def test_threads_that_cannot_start_cost_nobody_his_claim(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[Thread] = []
    start = Thread.start

    def few(thread: Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(Thread, "start", few)
    with Crew("crm", Slots(9), work=lambda place: Slice(), has_left=nobody) as crew:
        crew.call(3)

    assert len(crew.done) == 1
    assert "crew.few" in caplog.text


@pytest.mark.parametrize("fault", [StoreUnavailable("away"), ValueError("item 7")])
def test_one_that_breaks_gives_its_slot_back_and_tells_no_item(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    slots = Slots(KEPT_FOR_CONTROL + 1)

    def work(*, place: Slot) -> Slice:
        raise fault

    with Crew("crm", slots, work=work, has_left=nobody) as crew:
        crew.call(1)

    assert crew.done == []
    assert "item 7" not in caplog.text
    with slots.work("crm") as place:
        assert isinstance(place, Slot)
