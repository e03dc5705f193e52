"""Which of a process's threads may work on batches, and on which target's."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

#: Slots that are never used for batches, so that control is never held up.
KEPT_FOR_CONTROL = 2
#: A target whose bell came to this process within so many seconds counts as waiting.
REMEMBERED = 5.0


class Slots:
    """Shared by the threads of one process.

    One target gets at most half of the slots while another's bell was heard of
    late, so that a slow target never holds a quick one.
    """

    def __init__(self, threads: int) -> None:
        self._room = max(1, threads - KEPT_FOR_CONTROL)
        self._busy: Counter[str] = Counter()
        self._heard: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def enter(self, target: str) -> Iterator[bool]:
        """Take a slot for a target, or be told that none is free for it."""
        with self._lock:
            granted = self._may_enter(target)
            self._busy[target] += granted
        try:
            yield granted
        finally:
            with self._lock:
                self._busy[target] -= granted

    def _may_enter(self, target: str) -> bool:
        """Whether a slot is free for the target."""
        now = monotonic()
        self._heard[target] = now
        self._heard = {one: at for one, at in self._heard.items() if now - at < REMEMBERED}
        others = self._heard.keys() - {target}
        most = max(1, self._room // 2) if others else self._room
        return self._busy.total() < self._room and self._busy[target] < most
