"""The shared pace of a target: requests per second over all workers together.

The counting is done by `limits` (MIT), in the broker's Redis with a moving
window, so that no second sees more than it may. When Redis is away nothing is
sent: a pace that nobody can check is not kept.
"""

import time
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from api_adapters.base import Deadline
from api_adapters.errors import Paced

if TYPE_CHECKING:
    from limits import RateLimitItemPerSecond
    from limits.strategies import MovingWindowRateLimiter

#: A longer wait gives the batch back instead of holding a worker.
LONGEST_HOLD = 1.0
#: How long to wait when Redis is away.
AWAY = timedelta(seconds=2)
#: The longest window, in seconds, in which a fractional pace is counted.
LONGEST_WINDOW = 3_600


class NoPace:
    """A target without a pace of its own."""

    def enter(self, until: Deadline) -> None:
        """Let every request out at once."""


class SharedPace:
    """At most so many requests in every second, whoever sends them."""

    def __init__(self, target: str, requests_per_second: float, *, redis_url: str) -> None:
        self._target = target
        self._item = rate_of(requests_per_second)
        # Opened at the first request: building an adapter opens nothing.
        self._url = _storage_url(redis_url)
        self._limiter: MovingWindowRateLimiter | None = None

    def enter(self, until: Deadline) -> None:
        """Wait for a place of at most a second away. Raises Paced."""
        from redis.exceptions import RedisError

        while True:
            try:
                wait = self._try()
            except RedisError as error:
                message = "the shared pace cannot be checked: Redis does not answer"
                raise Paced(message, wait=AWAY) from error
            if wait is None:
                return
            if wait > min(LONGEST_HOLD, until.seconds_left):
                message = "the target's requests_per_second are used up"
                raise Paced(message, wait=timedelta(seconds=wait))
            time.sleep(wait)

    def _try(self) -> float | None:
        """Take a place; seconds until there may be one where there is none."""
        if self._limiter is None:
            from limits.storage import storage_from_string
            from limits.strategies import MovingWindowRateLimiter

            storage = storage_from_string(self._url, wrap_exceptions=False, key_prefix="deletions")
            self._limiter = MovingWindowRateLimiter(storage)
        if self._limiter.hit(self._item, "pace", self._target):
            return None
        stats = self._limiter.get_window_stats(self._item, "pace", self._target)
        return max(stats.reset_time - time.time(), 0.01)


def rate_of(requests_per_second: float) -> "RateLimitItemPerSecond":
    """A pace as so many requests in so many whole seconds.

    >>> rate_of(0.5)
    1 per 2 second
    """
    from limits import RateLimitItemPerSecond

    exact = Fraction(requests_per_second).limit_denominator(LONGEST_WINDOW)
    if exact == 0:
        from limits import RateLimitItemPerSecond

    exact = Fraction(1, LONGEST_WINDOW)
    return RateLimitItemPerSecond(exact.numerator, exact.denominator)


def _storage_url(redis_url: str) -> str:
    """The address as `limits` spells it.

    >>> _storage_url("redis+socket:///run/valkey.sock")
    'redis+unix:///run/valkey.sock'
    """
    return redis_url.replace("redis+socket://", "redis+unix://", 1)
