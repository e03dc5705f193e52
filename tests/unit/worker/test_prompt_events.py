"""The dispatcher of events: each is tried at once, and once."""

from typing import Any

from celery import Celery

from worker.quiet import PromptDispatcher


class Watched(PromptDispatcher):
    """Sends nothing, and notes how it would."""

    def __init__(self) -> None:
        super().__init__(enabled=False, app=Celery(set_as_current=False))
        self.enabled = True
        self.sent: list[tuple[str, bool]] = []

    def publish(self, type: str, fields: Any, producer: Any, **how: Any) -> None:  # noqa: A002
        self.sent.append((type, how["retry"]))


def test_a_heartbeat_is_not_repeated_until_it_is_out() -> None:
    dispatcher = Watched()

    dispatcher.send("worker-heartbeat", retry=True)

    assert dispatcher.sent == [("worker-heartbeat", False)]


def test_an_event_of_a_task_is_not_kept_back() -> None:
    dispatcher = Watched()

    dispatcher.send("task-succeeded", uuid="1")

    assert dispatcher.sent == [("task-succeeded", False)]
