"""Nobody waits for longer than he may, and a question is out once."""

from datetime import timedelta
from threading import Event, Thread

import pytest

from worker.patient import Patient

LONG, SHORT = timedelta(seconds=20), timedelta(milliseconds=20)


def test_the_answer_is_asked_for_anew_each_time() -> None:
    numbers = iter(range(9))
    ask = Patient(lambda: next(numbers), patience=LONG)

    assert (ask(), ask()) == (0, 1)


def test_what_the_question_raises_is_raised() -> None:
    ask = Patient(lambda: 1 / 0, patience=LONG)

    with pytest.raises(ZeroDivisionError):
        ask()


def test_a_question_that_hangs_is_asked_once() -> None:
    released, times = Event(), []
    ask = Patient(lambda: times.append(1) or released.wait(20), patience=SHORT)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            ask()
    assert times == [1]
    released.set()


def test_whoever_comes_meanwhile_gets_the_same_answer() -> None:
    released, found = Event(), []
    ask = Patient(lambda: released.wait(20) and object(), patience=LONG)
    threads = [Thread(target=lambda: found.append(ask())) for _ in range(3)]
    for thread in threads:
        thread.start()
    released.set()
    for thread in threads:
        thread.join()

    assert len(found) == 3
