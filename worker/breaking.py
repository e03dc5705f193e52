"""When a target that keeps failing is left alone, and for how long."""

from dataclasses import dataclass
from datetime import timedelta

#: So many calls in a row without a sign of life open the circuit.
FAILURES_TO_OPEN = 5
#: The first rest; each opening that follows without a sign of life doubles it.
FIRST_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Circuit:
    """What all workers know of a target's health; it is kept in the store.

    An open circuit lets one call through when its rest is over: a sign of life
    closes it, another failure opens it for longer. A circuit of each process's
    own, as libraries offer it, would let every process fail by itself first.
    """

    #: Calls without a sign of life since the last one with it.
    failing: int = 0
    #: How often it was opened since then.
    openings: int = 0

    @property
    def is_open(self) -> bool:
        """Whether at most one call at a time is let through, and only after a rest."""
        return self.openings > 0

    def after(
        self, failures: int, *, is_alive: bool, is_resting: bool
    ) -> "tuple[Circuit, timedelta]":
        """The circuit after some calls, and how long the target is left alone now.

        `failures` counts the calls that failed since the last sign of life, if
        `is_alive` says that there was one. Calls that were out when the rest
        began open nothing again.

        >>> Circuit(failing=4).after(1, is_alive=False, is_resting=False)
        (Circuit(failing=5, openings=1), datetime.timedelta(seconds=5))
        """
        before = Circuit() if is_alive else self
        failing = before.failing + failures
        is_worse = failures > 0 and (before.is_open or failing >= FAILURES_TO_OPEN)
        if not is_worse or is_resting:
            return Circuit(failing, before.openings), timedelta()
        openings = before.openings + 1
        return Circuit(failing, openings), min(
            FIRST_REST * float(2 ** min(openings - 1, 16)), LONGEST_REST
        )


#: A target that is well, as far as anyone knows.
CLOSED = Circuit()
