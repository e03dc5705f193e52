"""When a job that mostly fails is stopped, and what it is told."""

from dataclasses import dataclass
from datetime import timedelta

from api_adapters.base import Verdict
from worker.job import Tally

#: What counts as a failure: sent and not gone, or not to be sent at all.
FAILURES = (Verdict.DENIED, Verdict.FAILED, Verdict.UNKNOWN, Verdict.REJECTED)
#: A job is looked at no more often than this.
CHECK_EVERY = timedelta(milliseconds=250)
#: Adding up takes about 0.8 µs a range, and may take a twentieth of the time.
CHECK_EVERY_RANGE = timedelta(microseconds=16)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The share of failures that a job is allowed, once enough of it is decided."""

    share: float = 0.5
    #: So many items are decided before anything is said.
    after: int = 1_000

    def is_for(self, items: int) -> bool:
        """Whether a job of so many items is large enough to be looked at."""
        return items > self.after

    def reason_to_stop(self, tally: Tally) -> str | None:
        """Why a job with these outcomes is stopped; None where it goes on.

        >>> Tolerance(share=0.5, after=4).reason_to_stop({Verdict.DELETED: 1, Verdict.FAILED: 3})
        'of 4 decided items 3 are not gone (3 failed), and max_failures is 0.5'
        """
        decided = sum(tally.values())
        counts = {verdict: tally.get(verdict, 0) for verdict in FAILURES}
        failures = sum(counts.values())
        if decided < self.after or failures <= self.share * decided:
            return None
        named = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items() if count)
        said = f"of {decided:,} decided items {failures:,} are not gone ({named})"
        return f"{said}, and max_failures is {self.share:g}"


def wait_between(items: int, *, call_items: int) -> timedelta:
    """How long a job of so many items is left alone after it was looked at.

    >>> wait_between(1_000_000, call_items=1_000), wait_between(1_000_000, call_items=1)
    (datetime.timedelta(microseconds=250000), datetime.timedelta(seconds=16))
    """
    return max(CHECK_EVERY, CHECK_EVERY_RANGE * (items // max(1, call_items)))
