"""What is still wanted of all that a process has claimed, asked for all of it at once.

Each of thirty threads that asks for itself asks a hundred times a second, which
took a twelfth of the processor's time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from worker.store.base import LeaseId, Renewed, Store


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of leases, and when it was asked for, by our own clock."""

    at: float
    of: Mapping[LeaseId, Renewed]


class Watch:
    """Shared by the threads of one process."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        """`clock` counts seconds."""
        self._store = store
        self._clock = clock
        self._leases: dict[LeaseId, None] = {}
        self._last = Sight(at=float("-inf"), of={})
        self._looking = Lock()

    def begin(self, lease: LeaseId) -> None:
        """Look after a lease from now on."""
        self._leases[lease] = None

    def end(self, lease: LeaseId) -> None:
        """Look after it no longer."""
        self._leases.pop(lease, None)

    def see(self, lease: LeaseId, *, since: float) -> tuple[Renewed, float]:
        """What is wanted of a lease, as asked for after `since`, and when that was.

        Whoever comes while another one asks does not wait, since it may have to
        wait for a store that is away: it asks for itself.

        Raises:
            StoreUnavailable.
        """
        if (known := self._known(lease, since)) is not None:
            return known
        if not self._looking.acquire(blocking=False):
            now = self._clock()
            return self._store.see([lease])[lease], now
        try:
            # Another one may have asked while this one came.
            if (known := self._known(lease, since)) is not None:
                return known
            now = self._clock()
            # Where keys are protected, those of all batches are read: each for itself.
            others = () if self._has_protected() else list(self._leases)
            self._last = Sight(now, self._store.see([lease, *others]))
            return self._last.of[lease], now
        finally:
            self._looking.release()

    def _has_protected(self) -> bool:
        """Whether any key of the targets that were seen last is protected."""
        return any(one.has_protected for one in self._last.of.values())

    def _known(self, lease: LeaseId, since: float) -> tuple[Renewed, float] | None:
        """The last sight, if it is of this lease and late enough."""
        last = self._last
        if last.at > since and lease in last.of:
            return last.of[lease], last.at
        return None
