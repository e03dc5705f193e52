"""Threads that want the same at the same time ask together."""

from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

import pytest

from worker.joining import Joined, _Asked


class Slow:
    """Doubles numbers, once it may."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.is_asked = Event()
        self.may_answer = Event()
        self.fails = False

    def __call__(self, name: str, wishes: Sequence[int]) -> Sequence[int]:
        self.asked.append(list(wishes))
        self.is_asked.set()
        assert self.may_answer.wait(20)
        if self.fails:
            raise ConnectionError(name)
        return [2 * wish for wish in wishes]


class Asker(Thread):
    """One thread with one wish."""

    def __init__(self, joined: Joined[int, int], wish: int, name: str = "crm") -> None:
        super().__init__(daemon=True)
        self.told: list[object] = []
        self._joined = joined
        self._wish = wish
        self._under = name
        self.start()

    def run(self) -> None:
        try:
            self.told.append(self._joined(self._under, self._wish))
        except ConnectionError as error:
            self.told.append(error)


def end(*askers: Asker) -> list[object]:
    """What each was told."""
    for asker in askers:
        asker.join(20)
    return [told for asker in askers for told in asker.told]


def waiting(joined: Joined[int, int], count: int) -> None:
    """Until so many wait."""
    pause = Event()
    while len(joined._waiting["crm"]) < count:
        pause.wait(0.001)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def joined(slow: Slow) -> Joined[int, int]:
    return Joined(slow)


def test_who_is_alone_asks_alone(joined: Joined[int, int], slow: Slow) -> None:
    slow.may_answer.set()

    assert [joined("crm", 1), joined("crm", 2)] == [2, 4]
    assert slow.asked == [[1], [2]]


def test_those_that_come_meanwhile_ask_together(joined: Joined[int, int], slow: Slow) -> None:
    first = Asker(joined, 1)
    assert slow.is_asked.wait(20)
    others = [Asker(joined, wish) for wish in (2, 3, 4)]
    waiting(joined, 3)
    slow.may_answer.set()

    assert end(first, *others) == [2, 4, 6, 8]
    assert sorted(map(len, slow.asked)) == [1, 3]


def test_who_knows_that_others_come_with_it_lingers_for_them(slow: Slow) -> None:
    joined = Joined(slow, lingers=lambda wish: 0.5 if wish == 1 else 0.0)
    slow.may_answer.set()

    first = Asker(joined, 1)
    waiting(joined, 1)
    other = Asker(joined, 2)

    assert end(first, other) == [2, 4]
    assert slow.asked == [[1, 2]]


def test_who_breaks_off_while_it_lingers_holds_up_nobody(slow: Slow) -> None:
    others: list[Asker] = []

    def interrupted(_: float) -> None:
        others.append(Asker(joined, 2))
        waiting(joined, 2)
        raise KeyboardInterrupt

    joined = Joined(slow, lingers=lambda wish: float(wish == 1), sleep=interrupted)
    slow.may_answer.set()
    with pytest.raises(KeyboardInterrupt):
        joined("crm", 1)

    assert end(*others) == [4]
    assert joined("crm", 3) == 6


def test_under_another_name_nobody_waits(joined: Joined[int, int], slow: Slow) -> None:
    first = Asker(joined, 1)
    assert slow.is_asked.wait(20)
    slow.is_asked.clear()
    other = Asker(joined, 2, "erp")
    assert slow.is_asked.wait(20)
    slow.may_answer.set()

    assert end(first, other) == [2, 4]


def test_a_failure_is_told_to_all_who_asked_together(joined: Joined[int, int], slow: Slow) -> None:
    first = Asker(joined, 1)
    assert slow.is_asked.wait(20)
    others = [Asker(joined, wish) for wish in (2, 3)]
    waiting(joined, 2)
    slow.fails = True
    slow.may_answer.set()

    assert [str(told) for told in end(first, *others)] == ["crm"] * 3


@pytest.mark.parametrize("when", ["before it was called", "after"])
def test_who_breaks_off_its_wait_holds_up_nobody(
    joined: Joined[int, int], slow: Slow, when: str
) -> None:
    class Broken(Event):
        """A wait that a signal breaks off."""

        def wait(self, timeout: float | None = None) -> bool:
            slow.may_answer.set()
            assert when != "after" or super().wait(20)
            raise KeyboardInterrupt

    first = Asker(joined, 1)
    assert slow.is_asked.wait(20)
    mine: Any = _Asked(2)
    mine.is_called = Broken()
    joined._waiting["crm"].append(mine)
    with pytest.raises(KeyboardInterrupt):
        joined._wait("crm", mine)

    assert end(first) == [2]
    assert joined("crm", 3) == 6


def test_after_a_failure_it_goes_on(joined: Joined[int, int], slow: Slow) -> None:
    slow.may_answer.set()
    slow.fails = True
    with pytest.raises(ConnectionError):
        joined("crm", 1)
    slow.fails = False

    assert joined("crm", 2) == 4
