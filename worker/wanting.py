"""How much one claim of a target takes, by how long its calls took of late."""

from dataclasses import replace
from datetime import timedelta

from worker.store.base import Appetite
from worker.target import Target

#: What a claim takes is expected to be finished in this time; the less is left,
#: the less it takes, down to the other.
CLAIM_WORTH = timedelta(seconds=1)
LEAST_WORTH = timedelta(milliseconds=250)
#: Of a slow target with many places, one is free again long before such a claim
#: ends: every claim costs 30 ms of the processor, half of what ten calls do.
LONGEST_WORTH = timedelta(seconds=4)
MANY_PLACES = 16
MOST_CALLS_A_CLAIM = 100
#: More items than fit in one call are claimed up to here: all of them are in hand at once.
MOST_ITEMS_A_CLAIM = 40_000
#: The first claim of a slice takes less, by chance down to the rest of this share,
#: and of several that claim together each another one: slices that begin together
#: do not record and claim at the same moments ever after.
LEAST_SHARE = 0.7
#: Of calls this long many are wanted at once; a few threads keep a process busy
#: with short ones.
LONG_CALL = timedelta(milliseconds=20)
#: How long a call that is not full waits for what shares it; while others keep
#: coming, four times as long.
GATHER = timedelta(milliseconds=250)


def want(target: Target, call_time: timedelta | None) -> Appetite:
    """How much a claim takes; one call where nobody knows how long one takes."""
    size, places = target.limits.max_items_per_call, target.limits.max_in_flight
    if call_time is None:
        return Appetite(size, calls=1, least=1, places=places, patience=GATHER)
    is_slow = call_time >= LONG_CALL
    worth = LONGEST_WORTH if is_slow and places >= MANY_PLACES else CLAIM_WORTH
    took = max(call_time, timedelta(milliseconds=1))
    most = max(1, min(MOST_CALLS_A_CLAIM, MOST_ITEMS_A_CLAIM // size))
    return Appetite(
        size,
        calls=max(1, min(worth // took, most)),
        least=max(1, min(LEAST_WORTH // took, most)),
        places=places,
        patience=GATHER,
        is_slow=is_slow,
    )


def want_at_first(target: Target, call_time: timedelta | None, *, chance: float) -> Appetite:
    """The same where a slice begins; `chance` is a number from 0 to 1."""
    whole = want(target, call_time)
    share = 1 - LEAST_SHARE * chance
    return replace(whole, calls=max(1, int(share * whole.calls)), spread=LEAST_SHARE)
