"""Which of a process's threads may work on batches, and on which target's."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

#: Slots that are never used for batches, so that control is never held up.
KEPT_FOR_CONTROL = 2
#: A target whose bell came to this process within so many seconds counts as
#: waiting. A lost bell is rung again by the look after five seconds and a bit.
REMEMBERED = 10.0


class Slots:
    """Shared by the threads of one process.

    One target gets at most half of the slots while another's bell was heard of
    late, so that a slow target never holds a quick one.
    """

    def __init__(self, threads: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._room = max(1, threads - KEPT_FOR_CONTROL)
        self._clock = clock
        self._busy: Counter[str] = Counter()
        self._heard: dict[str, float] = {}
        self._turned_away: dict[str, None] = {}
        self._lock = Lock()

    @contextmanager
    def enter(self, target: str) -> Iterator[bool]:
        """Take a slot for a target, or be told that none is free for it."""
        with self._lock:
            granted = self._may_enter(target)
            self._busy[target] += granted
            if not granted:
                self._turned_away[target] = None
        try:
            yield granted
        finally:
            with self._lock:
                self._busy[target] -= granted

    def turned_away(self) -> list[str]:
        """Targets whose bell found no slot since this was asked: ring them again.

        Otherwise a target that nobody here works on would wait for the look.
        """
        with self._lock:
            names = list(self._turned_away)
            self._turned_away.clear()
        return names

    def _may_enter(self, target: str) -> bool:
        """Whether a slot is free for the target."""
        now = self._clock()
        self._heard[target] = now
        self._heard = {one: at for one, at in self._heard.items() if now - at < REMEMBERED}
        others = self._heard.keys() - {target}
        most = max(1, self._room // 2) if others else self._room
        return self._busy.total() < self._room and self._busy[target] < most
