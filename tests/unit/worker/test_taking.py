"""The taker: when Celery's loop is woken to read again."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.asynchronous import Hub

from worker.taking import Taker


class Consumer:
    """A consumer that may read or not, and the loop that it reads in."""

    def __init__(self) -> None:
        self.is_free = True
        self.hub = Hub()
        self.connect()

    def connect(self) -> None:
        """Have a new connection, and nothing of the old one."""
        qos: Any = SimpleNamespace(can_consume=lambda: self.is_free)
        self.task_consumer = SimpleNamespace(channel=SimpleNamespace(qos=qos))

    def may_read(self) -> bool:
        return bool(self.task_consumer.channel.qos.can_consume())

    def sleeps(self, seconds: float) -> bool:
        """Whether its loop sleeps for so long."""
        return not self.hub.poller.poll(seconds)


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    consumer = Consumer()
    taker = Taker(consumer)
    taker.start(consumer)
    yield consumer
    taker.stop(consumer)
    consumer.hub.close()
    assert "taker" not in {one.name for one in threading.enumerate()}


def test_who_may_read_is_not_woken(consumer: Consumer) -> None:
    assert consumer.may_read()
    assert consumer.sleeps(0.05)


def test_who_may_not_read_is_woken_soon_and_once(consumer: Consumer) -> None:
    loop = consumer.hub.create_loop()
    consumer.is_free = False

    assert not consumer.may_read()
    assert not consumer.sleeps(10)

    next(loop)
    assert consumer.sleeps(0.05)


def test_a_new_connection_is_looked_after_as_well() -> None:
    consumer = Consumer()
    taker = Taker(consumer)
    taker.start(consumer)
    taker.stop(consumer)
    consumer.connect()
    consumer.is_free = False

    taker.start(consumer)

    assert not consumer.may_read()
    assert not consumer.sleeps(10)
    taker.stop(consumer)
    consumer.hub.close()


def test_what_a_loop_has_forgotten_is_closed_all_the_same() -> None:
    consumer = Consumer()
    taker = Taker(consumer)
    taker.start(consumer)

    consumer.hub.close()

    taker.stop(consumer)


def test_a_pool_without_a_loop_reads_for_itself() -> None:
    consumer: Any = SimpleNamespace(hub=None)
    taker = Taker(consumer)

    taker.start(consumer)
    taker.stop(consumer)
