"""One adapter call as it is counted: how it was answered, and how long it took."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Answer(StrEnum):
    """How a call was answered; a closed set, since each is counted by itself."""

    OK = "ok"  #: the backend answered as it documents
    REFUSED = "refused"  #: it refused the call because of what is in it
    RATE_LIMITED = "rate_limited"  #: it told us to wait
    TRANSIENT = "transient"  #: it told of a passing fault
    LOST = "lost"  #: no whole answer came, and the call may have run
    NO_CONNECTION = "no_connection"  #: nothing can have reached it
    HOPELESS = "hopeless"  #: no call can succeed until a person acts
    PACED = "paced"  #: the target's own pace let no request out
    BROKEN = "broken"  #: the adapter itself broke


#: Calls are counted by how long they took: up to each of these, and longer.
BOUNDS = (
    *(timedelta(milliseconds=length) for length in (5, 10, 25, 50, 100, 250, 500)),
    *(timedelta(seconds=length) for length in (1, 2.5, 5, 10, 30, 60)),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that was made."""

    answer: Answer
    took: timedelta

    @property
    def is_timed(self) -> bool:
        """Whether its length tells anything: what was never sent took no time."""
        return self.answer is not Answer.PACED


def bucket_of(took: timedelta) -> int:
    """The place among `BOUNDS` of the lowest one that is not exceeded.

    >>> bucket_of(timedelta(milliseconds=5)), bucket_of(timedelta(minutes=2)) == len(BOUNDS)
    (0, True)
    """
    return bisect_left(BOUNDS, took)
