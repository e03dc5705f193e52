"""One adapter call: its notes, and what is summed up of several."""

from datetime import timedelta

from api_adapters.base import Reply
from api_adapters.errors import Paced
from tests.factories import SECOND
from tests.fakes import lost, told_to_wait
from worker.calling import note_of, sum_up
from worker.store.base import CallNote


def test_an_answer_is_noted_with_its_time() -> None:
    assert note_of(Reply(), SECOND) == CallNote(took=SECOND, answered=True, is_alive=True)


def test_a_call_without_an_answer_is_no_answer() -> None:
    assert not note_of(Reply(error=lost()), SECOND).answered


def test_a_told_wait_rests_the_target() -> None:
    assert note_of(Reply(error=told_to_wait(30)), SECOND).rest == timedelta(seconds=30)


def test_a_wait_for_the_pace_counts_as_time_of_the_call() -> None:
    paced = Paced("used up", wait=SECOND * 2)

    assert note_of(Reply(error=paced), SECOND).took == SECOND * 3


def test_several_calls_are_their_mean_and_the_longest_wait() -> None:
    notes = [
        CallNote(took=SECOND, answered=False, rest=SECOND * 9),
        CallNote(took=SECOND * 3, answered=True),
    ]

    assert sum_up(notes) == CallNote(took=SECOND * 2, answered=True, rest=SECOND * 9)
    assert sum_up([]) is None
