"""Sends what Celery tells of its work: events, which Flower and others hear.

A task has three, and publishing one costs as much as a statement. Those of a
tenth of a second go out as one message, as Celery's own do. But Celery throws
away what a thread adds while they are sent, and sends what a thread tells only
when the loop turns the next time: a job would look unfinished for ever, or for
a second.
"""

import time
from collections import deque
from threading import Event as Flag
from threading import Thread
from typing import Any
from uuid import uuid4

from celery.app.events import Events
from celery.events import Event, EventDispatcher
from celery.signals import worker_shutting_down
from celery.utils.time import utcoffset

#: Seconds for which the events of tasks are kept, so that they go out together.
KEPT_SECONDS = 0.1
#: Events of one message.
MOST_AT_ONCE = 200

#: Set when the process is to end.
is_ending = Flag()

_OF_TASKS = "task-"


class PromptDispatcher(EventDispatcher):  # type: ignore[misc]  # Celery publishes no types
    """Sends events of tasks together after a moment, and all others at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "buffer_group": None, "on_send_buffered": None})
        self._kept: deque[Any] = deque()
        self._has_some = Flag()
        self._is_closed = False
        self._sender: Thread | None = None

    def send(self, type: str, *args: Any, **kwargs: Any) -> Any:  # noqa: A002 (Celery's signature)
        """Try to send an event once; what could not go out follows when the broker is back.

        Celery repeats a heartbeat until it is out. While the broker says
        nothing, that keeps the loop from turning which hears the wish to end.
        """
        return super().send(type, *args, **{**kwargs, "retry": False})

    def publish(self, type: str, fields: Any, producer: Any, **how: Any) -> Any:  # noqa: A002
        """Keep an event of a task for a moment; from the wish to end on, nothing is kept."""
        if not type.startswith(_OF_TASKS) or is_ending.is_set():
            return super().publish(type, fields, producer, **how)
        told = {"hostname": self.hostname, "pid": self.pid, "clock": self.clock.forward()}
        self._kept.append(Event(type, utcoffset=utcoffset(), **told, **fields))
        self._begin_to_send()
        self._has_some.set()
        return None

    def flush(self, errors: bool = True, groups: bool = True) -> None:  # noqa: FBT001, FBT002
        """Send what is kept, and what could not go out before."""
        super().flush(errors=errors, groups=False)
        if groups:
            self._send_kept()

    def close(self) -> None:
        """Send what is kept, if it still can be, and nothing more."""
        self._send_kept()
        self._is_closed = True
        self._has_some.set()
        super().close()

    def show_done(self, name: str, *, arguments: str, result: str) -> None:
        """Tell of a task that was done on the side, as if a message had asked for it."""
        uuid = str(uuid4())
        begun = {"retries": 0, "eta": None, "expires": None, "root_id": uuid, "parent_id": None}
        self.send("task-received", uuid=uuid, name=name, args="()", kwargs=arguments, **begun)
        self.send("task-started", uuid=uuid)
        self.send("task-succeeded", uuid=uuid, result=result, runtime=0.0)

    def _begin_to_send(self) -> None:
        """Have a thread that sends; one too many would only find less to send."""
        if self._sender is None:
            self._sender = Thread(target=self._keep_sending, name="events", daemon=True)
            self._sender.start()

    def _keep_sending(self) -> None:
        while not self._is_closed:
            self._has_some.wait()
            time.sleep(KEPT_SECONDS)
            self._has_some.clear()
            self._send_kept()

    def _send_kept(self) -> None:
        """Send what is kept; each event is taken by one thread."""
        while events := self._take():
            with self.mutex:
                # What fails is kept by Celery until the broker is back.
                self._publish(events, self.producer, "task.multi")

    def _take(self) -> list[Any]:
        events: list[Any] = []
        while self._kept and len(events) < MOST_AT_ONCE:
            try:
                events.append(self._kept.popleft())
            except IndexError:
                break
        return events


class PromptEvents(Events):  # type: ignore[misc]  # Celery publishes no types
    """Celery's events, sent by a `PromptDispatcher`."""

    dispatcher_cls = PromptDispatcher


def _hurry(**_: Any) -> None:
    """The connection is closed soon, and what is kept then goes nowhere."""
    is_ending.set()


worker_shutting_down.connect(_hurry)
