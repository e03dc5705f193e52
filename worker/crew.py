"""Threads of a process that work beside a slice, so that a slow backend is soon kept busy.

Called for by message, the last of thirty would come after as many messages, each
of which costs as much as a claim. One process claims for all of them at once.
"""

import logging
from collections.abc import Callable
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from worker.deleting import Slice
from worker.errors import StoreUnavailable
from worker.slots import Slot, Slots

log = logging.getLogger("deletions.crew")


class Crew:
    """Those that one slice has called for; leaving it waits until all have ended."""

    def __init__(
        self,
        target: str,
        slots: Slots,
        *,
        work: Callable[..., Slice],
        has_left: Callable[[], None],
    ) -> None:
        """`work` does what a slice does, in a `place`; `has_left` is told that a slot is free."""
        self._target = target
        self._slots = slots
        self._work = work
        self._has_left = has_left
        self._threads: list[Thread] = []
        self._lock = Lock()
        self._done: list[Slice] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def done(self) -> list[Slice]:
        """What those have done that have ended."""
        with self._lock:
            return list(self._done)

    def call(self, count: int) -> None:
        """Start so many; those for whom there is no slot end at once."""
        for _ in range(count):
            thread = Thread(target=self._run, name="crew", daemon=True)
            try:
                thread.start()
            # The system gives no more: those that are there work on.
            except RuntimeError as error:
                log.warning("crew.few", extra={"target": self._target, "cause": str(error)})
                return
            self._threads.append(thread)

    def _run(self) -> None:
        try:
            with self._slots.work(self._target, by_bell=False) as place:
                if not isinstance(place, Slot):
                    return
                done = self._work(place=place)
            with self._lock:
                self._done.append(done)
            self._has_left()
        except StoreUnavailable as away:
            log.warning("crew.failed", extra={"target": self._target, "cause": str(away)})
        # What nobody expected must not be told with what it says: that may hold an item.
        except Exception as error:  # noqa: BLE001
            told = {"target": self._target, "error": type(error).__name__}
            log.error("crew.broke", extra=told)  # noqa: TRY400
