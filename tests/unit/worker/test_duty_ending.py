"""The end of a worker process may be wished at any instruction, also amid its beginning."""

from typing import Any

from worker.duty import _Current


class MadeDuty:
    """A duty that notes its end."""

    is_ended = False

    def end(self) -> None:
        self.is_ended = True


def test_a_wish_to_end_amid_the_making_neither_waits_nor_gets_lost() -> None:
    current = _Current()
    made: Any = MadeDuty()

    def interrupted() -> Any:
        # As a signal's handler does it, on the thread that holds the lock.
        current.end()
        return made

    assert current.get(interrupted) is made
    assert made.is_ended


def test_ending_makes_no_duty_and_ends_the_one_that_there_is() -> None:
    current = _Current()
    made: Any = MadeDuty()
    current.get(lambda: made)

    current.end()

    assert made.is_ended
    another: Any = MadeDuty()
    assert current.get(lambda: another) is made
