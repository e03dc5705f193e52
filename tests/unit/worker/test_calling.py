"""One adapter call: its notes, and what is summed up of several."""

from datetime import timedelta

import pytest

from api_adapters.base import Reply
from api_adapters.errors import CallFailed, Hopeless, Paced, Refused, Transient
from tests.factories import SECOND
from tests.fakes import lost, told_to_wait
from worker.call import Answer, Call
from worker.calling import answer_of, note_of, sum_up
from worker.store.base import CallNote


def test_an_answer_is_noted_with_its_time() -> None:
    assert note_of(Reply(), SECOND) == CallNote(
        took=SECOND, answered=True, is_alive=True, calls=(Call(Answer.OK, SECOND),)
    )


def test_a_call_without_an_answer_is_no_answer() -> None:
    assert not note_of(Reply(error=lost()), SECOND).answered


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (None, Answer.OK),
        (Refused("no"), Answer.REFUSED),
        (Hopeless("no permission"), Answer.HOPELESS),
        (Paced("used up", wait=SECOND), Answer.PACED),
        (told_to_wait(30), Answer.RATE_LIMITED),
        (Transient("busy", code="503"), Answer.TRANSIENT),
        (Transient("the adapter broke", code="adapter_broke"), Answer.BROKEN),
        (Transient("no answer in time"), Answer.LOST),
        (Transient("no connection", may_have_run=False), Answer.NO_CONNECTION),
    ],
)
def test_every_end_of_a_call_has_its_answer(error: CallFailed | None, answer: Answer) -> None:
    assert answer_of(error) is answer


def test_a_sum_of_calls_keeps_each_of_them() -> None:
    notes = [note_of(Reply(), SECOND), note_of(Reply(error=Paced("", wait=SECOND)), SECOND)]
    summed = sum_up(notes)

    assert summed is not None
    assert summed.calls == (Call(Answer.OK, SECOND), Call(Answer.PACED, SECOND))


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
