"""The listener: silence on a connection that waits for an answer, and what is none."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from worker.listener import LOOK_EVERY, Listener


class Timer:
    """Keeps what is to be done again and again."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def call_repeatedly(self, seconds: float, do: Any, arguments: Any) -> Any:
        assert seconds == LOOK_EVERY
        self.entries.append(entry := SimpleNamespace(do=lambda: do(*arguments), cancel=self.cancel))
        return entry

    def cancel(self) -> None:
        self.entries.clear()


@dataclass
class Line:
    """A consumer that waits for an answer of its broker, and is to look."""

    consumer: Any
    connection: Any
    broker: socket.socket
    timer: Timer
    listener: Listener

    def look(self) -> None:
        (entry,) = self.timer.entries
        entry.do()

    def hear(self) -> None:
        """An answer was read; the next one is waited for."""
        self.connection.next_health_check += 1


@pytest.fixture
def line() -> Iterator[Line]:
    near, far = socket.socketpair()
    connection = SimpleNamespace(_sock=near, next_health_check=1.0)
    channel = SimpleNamespace(_in_poll=connection)
    timer = Timer()
    consumer = SimpleNamespace(timer=timer, task_consumer=SimpleNamespace(channel=channel))
    listener = Listener(consumer)
    listener.start(consumer)
    yield Line(consumer, connection, far, timer, listener)
    near.close()
    far.close()


def test_silence_from_one_look_to_the_next_is_given_up(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line.look()

    with pytest.raises(ConnectionError, match="does not answer"):
        line.look()

    assert "broker.silent" in caplog.text


def test_who_answers_is_kept(line: Line) -> None:
    for _ in range(3):
        line.look()
        line.hear()


def test_an_answer_that_a_busy_worker_has_not_read_is_one(line: Line) -> None:
    line.look()
    line.broker.send(b"*2")

    line.look()


@pytest.mark.parametrize("waiting", [None, False, SimpleNamespace(_sock=None)])
def test_who_does_not_wait_is_not_kept_waiting(line: Line, waiting: Any) -> None:
    line.look()
    line.consumer.task_consumer.channel._in_poll = waiting
    line.look()
    line.consumer.task_consumer.channel._in_poll = line.connection

    line.look()


def test_another_transport_has_nothing_to_wait_for(line: Line) -> None:
    line.consumer.task_consumer.channel = SimpleNamespace()

    line.look()
    line.look()


def test_a_new_connection_begins_anew(line: Line) -> None:
    line.look()
    line.listener.stop(line.consumer)
    assert line.timer.entries == []

    line.listener.start(line.consumer)

    line.look()
