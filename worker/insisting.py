"""Repeating a write while the store is away, for as long as it is of use."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from worker.errors import StoreUnavailable

log = logging.getLogger("deletions.insisting")

#: Seconds between two tries: they double.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
#: Seconds for which a process that is to end still tries.
LAST_TRIES = 20.0

Found = TypeVar("Found")


def _never() -> bool:
    return False


class Insistence:
    """What a worker holds nobody else knows, so it does not give up."""

    def __init__(
        self,
        *,
        is_ending: Callable[[], bool] = _never,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clock` counts seconds; `is_ending` is true once the process is to end."""
        self._is_ending = is_ending
        self._clock = clock
        self._sleep = sleep

    def __call__(self, write: Callable[[], Found]) -> Found:
        """Repeat a write until the store answers, be it with a refusal.

        A process that is to end gives up in time: then its claim counts as lost.

        Raises:
            StoreUnavailable: the process is to end, and the store was away to the last.
        """
        pause, give_up_at = FIRST_PAUSE, None
        while True:
            try:
                return write()
            except StoreUnavailable as away:
                if self._is_ending():
                    give_up_at = give_up_at or self._clock() + LAST_TRIES
                    if self._clock() >= give_up_at:
                        raise
                log.warning("write.delayed", extra={"cause": str(away), "pause": pause})
            self._sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
