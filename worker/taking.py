"""Takes the next message soon after a thread is free.

Celery reads no message while all its threads are busy. That one of them is free
again wakes nobody: its loop sleeps until something comes on a connection, or
until its next timer, which may be seconds away. A queue that is never empty was
worked off in bursts, each with a pause as long as that after it.
"""

import os
import time
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from celery import bootsteps

#: Seconds until a loop that may not read looks again whether it may.
LOOK_AGAIN = 0.01
#: More than is ever written before it is read.
_MOST = 4096


class Taker(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery publishes no types
    """Has Celery's loop look again while it may not read.

    Its timers will not do: how long it sleeps is settled before it asks whether
    it may read.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._waker: _Waker | None = None

    def start(self, parent: Any) -> None:
        """Look after the connection that the consumer has now."""
        # A pool that has no loop reads for itself.
        if parent.hub is None:
            return
        self._waker = waker = _Waker(parent.hub)
        quality = parent.task_consumer.channel.qos
        may_read = quality.can_consume

        def can_consume() -> bool:
            is_free = bool(may_read())
            if not is_free:
                waker.wake_soon()
            return is_free

        quality.can_consume = can_consume

    def stop(self, parent: Any) -> None:
        """The connection ends."""
        if self._waker is not None:
            self._waker.close()
            self._waker = None


class _Waker:
    """Wakes a loop by a pipe that it reads."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._near, self._far = os.pipe()
        os.set_blocking(self._near, False)
        self._is_wanted = Event()
        self._is_closed = False
        hub.add_reader(self._near, self._drain)
        self._thread = Thread(target=self._keep_waking, name="taker", daemon=True)
        self._thread.start()

    def wake_soon(self) -> None:
        """Wake the loop once, in a moment."""
        self._is_wanted.set()

    def close(self) -> None:
        """Wake nobody any more."""
        self._is_closed = True
        self._is_wanted.set()
        self._thread.join()
        # The hub may have forgotten it, with all else that it read.
        with suppress(KeyError, OSError):
            self._hub.remove_reader(self._near)
        os.close(self._near)
        os.close(self._far)

    def _keep_waking(self) -> None:
        while not self._is_closed:
            self._is_wanted.wait()
            self._is_wanted.clear()
            time.sleep(LOOK_AGAIN)
            os.write(self._far, b".")

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._near, _MOST)
