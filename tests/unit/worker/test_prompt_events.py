"""The dispatcher of events: those of tasks go out together, and none is lost or repeated."""

import threading
from typing import Any

import pytest
from celery import Celery
from celery.signals import worker_shutting_down

from worker.dispatcher import PromptDispatcher


class Publishing:
    """Keeps what would be published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, bool]] = []
        self.is_away = False
        self.has_sent = threading.Event()

    def publish(self, event: Any, *, routing_key: str, retry: bool, **_: Any) -> None:
        if self.is_away:
            raise ConnectionError
        self.sent.append((routing_key, event, retry))
        self.has_sent.set()


def dispatcher() -> tuple[PromptDispatcher, Publishing]:
    made = PromptDispatcher(enabled=False, app=Celery(set_as_current=False))
    made.enabled, made.producer = True, Publishing()
    return made, made.producer


def told(producer: Publishing) -> list[str]:
    return [one["uuid"] for _, events, _ in producer.sent for one in events]


def test_a_heartbeat_is_not_repeated_until_it_is_out() -> None:
    made, producer = dispatcher()

    made.send("worker-heartbeat", retry=True)

    assert [(key, retry) for key, _, retry in producer.sent] == [("worker.heartbeat", False)]


def test_the_events_of_a_moment_are_one_message() -> None:
    made, producer = dispatcher()

    for uuid in "abc":
        made.send("task-succeeded", uuid=uuid)
    made.flush()

    assert [key for key, _, _ in producer.sent] == ["task.multi"]
    assert told(producer) == ["a", "b", "c"]


def test_an_event_is_sent_though_nothing_follows() -> None:
    made, producer = dispatcher()

    made.send("task-succeeded", uuid="1")

    assert producer.has_sent.wait(10)
    assert told(producer) == ["1"]
    made.close()


def test_what_threads_tell_meanwhile_is_sent_once() -> None:
    made, producer = dispatcher()

    def tell(thread: int) -> None:
        for number in range(200):
            made.send("task-succeeded", uuid=f"{thread}-{number}")
            made.flush()

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(told(producer)) == sorted(f"{t}-{n}" for t in range(4) for n in range(200))


def test_what_could_not_go_out_follows_when_the_broker_is_back() -> None:
    made, producer = dispatcher()
    producer.is_away = True
    made.send("task-succeeded", uuid="1")
    made.flush()

    producer.is_away = False
    made.flush()

    assert told(producer) == ["1"]


def test_nothing_is_kept_once_the_process_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.dispatcher.is_ending", threading.Event())
    made, producer = dispatcher()
    worker_shutting_down.send(sender="w1", sig="SIGTERM", how="Warm", exitcode=0)

    made.send("task-succeeded", uuid="1")

    assert [key for key, _, _ in producer.sent] == ["task.succeeded"]


def test_what_is_kept_goes_out_before_the_dispatcher_closes() -> None:
    made, producer = dispatcher()
    made.send("task-succeeded", uuid="1")

    made.close()

    assert told(producer) == ["1"]


def test_what_was_done_on_the_side_looks_like_any_task() -> None:
    made, producer = dispatcher()

    made.show_done("deletions.settle", arguments="job='1'", result="completed job=1")
    made.flush()

    ((_, events, _),) = producer.sent
    assert [one["type"] for one in events] == ["task-received", "task-started", "task-succeeded"]
    assert len({one["uuid"] for one in events}) == 1
    assert (events[0]["kwargs"], events[2]["result"]) == ("job='1'", "completed job=1")
