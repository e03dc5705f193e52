"""How long to wait before an attempt, and how many there are."""

from dataclasses import dataclass
from datetime import timedelta

#: A backend that names no wait, or none that is left, is asked again after this:
#: for it costs no attempt, a wait of nothing could be told for ever.
SHORTEST_TOLD_WAIT = timedelta(seconds=1)
#: A backend that names a longer wait is asked again after this.
LONGEST_TOLD_WAIT = timedelta(hours=1)
#: A batch that was told to wait for longer than this in all gives up.
LONGEST_PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Exponential waits with full jitter and a cap.

    Full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog,
    2015): of the ways compared there it makes the fewest calls collide.
    """

    max_attempts: int = 5
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)

    def wait_after(self, failures: int, *, chance: float) -> timedelta:
        """The wait after so many failures; `chance` is drawn from 0 to 1.

        >>> RetryRules().wait_after(3, chance=0.5)
        datetime.timedelta(seconds=2)
        """
        longest = min(self.base * float(2 ** min(failures - 1, 32)), self.cap)
        return longest * chance

    def is_used_up(self, failures: int) -> bool:
        """Whether no attempt is left."""
        return failures >= self.max_attempts


def told_wait(wait: timedelta) -> timedelta:
    """The wait that a backend asked for, kept between a second and an hour.

    >>> told_wait(timedelta(days=2))
    datetime.timedelta(seconds=3600)
    """
    return max(SHORTEST_TOLD_WAIT, min(wait, LONGEST_TOLD_WAIT))
