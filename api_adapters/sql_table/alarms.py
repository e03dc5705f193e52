"""What is broken off when its time has come, by one thread for all."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from api_adapters.errors import Transient

#: Seconds that the thread stays while nothing is to be watched: to begin one
#: for each statement takes longer than many a statement.
LINGERS = 5.0


@dataclass(eq=False, slots=True)
class _Alarm:
    """Something to do at a moment of the monotonic clock."""

    moment: float
    ring: Callable[[], object]


class Alarms:
    """Any number of threads may set some at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._set: set[_Alarm] = set()
        #: What the thread sleeps until; None while there is none.
        self._wakes_at: float | None = None

    @contextmanager
    def after(self, seconds: float, ring: Callable[[], object]) -> Iterator[None]:
        """Call `ring` unless what is inside ends within so many seconds.

        It must not wait for anything: no other alarm rings meanwhile. Once what
        is inside has ended it does not run, nor will it.

        Raises:
            Transient: no thread can be started, and so nothing was begun.
        """
        alarm = _Alarm(time.monotonic() + seconds, ring)
        with self._changed:
            if self._wakes_at is None:
                self._start()
                self._wakes_at = alarm.moment
            elif alarm.moment < self._wakes_at:
                self._changed.notify()
            self._set.add(alarm)
        try:
            yield
        finally:
            with self._changed:
                self._set.discard(alarm)

    def _start(self) -> None:
        """Start the thread, which waits until what it is to watch is set."""
        try:
            threading.Thread(target=self._watch, name="alarms", daemon=True).start()
        except RuntimeError as error:
            raise Transient(str(error), may_have_run=False) from error

    def _watch(self) -> None:
        """Ring what is due, until there has been nothing for a while."""
        with self._changed:
            while self._ring() or self._rest(LINGERS):
                self._rest(min(one.moment for one in self._set) - time.monotonic())
            self._wakes_at = None

    def _ring(self) -> bool:
        """Ring what is due; whether anything is left."""
        now = time.monotonic()
        for alarm in [one for one in self._set if one.moment <= now]:
            self._set.discard(alarm)
            # Whatever one of them meets, the others are still to be rung.
            with suppress(Exception):
                alarm.ring()
        return bool(self._set)

    def _rest(self, seconds: float) -> bool:
        """Sleep, or until something is to be rung earlier; whether anything is set."""
        self._wakes_at = time.monotonic() + seconds
        self._changed.wait(max(0.0, seconds))
        return bool(self._set)
