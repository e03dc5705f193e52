"""The shared pace of a target: requests per second over all workers together.

The counting is done by `limits` (MIT), in the broker's Redis with a moving
window, so that no second sees more than it may. When Redis is away nothing is
sent: a pace that nobody can check is not kept.
"""

import math
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from api_adapters.base import Deadline
from api_adapters.errors import Paced

if TYPE_CHECKING:
    from limits import RateLimitItemPerSecond
    from limits.strategies import MovingWindowRateLimiter

#: A longer wait gives the batch back instead of holding a worker.
LONGEST_HOLD = 1.0
#: How long to wait when Redis is away.
AWAY = timedelta(seconds=2)
#: The longest time between two requests, in seconds; a slower pace is none.
LONGEST_WINDOW = 86_400
#: A faster pace is none either, and would only fill Redis.
MOST_A_SECOND = 10_000
#: Seconds for which Redis is waited for.
ANSWER_TAKES = 2.0


class NoPace:
    """A target without a pace of its own."""

    def enter(self, until: Deadline) -> None:
        """Let every request out at once."""


class SharedPace:
    """At most so many requests in every second, whoever sends them."""

    def __init__(
        self,
        target: str,
        requests_per_second: float,
        *,
        redis_url: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._target = target
        self._item = rate_of(requests_per_second)
        # Opened at the first request: building an adapter opens nothing.
        self._url = storage_url(redis_url)
        self._sleep = sleep
        self._limiter: MovingWindowRateLimiter | None = None

    def enter(self, until: Deadline) -> None:
        """Wait for a place of at most a second away. Raises Paced."""
        from redis.exceptions import RedisError

        left = LONGEST_HOLD
        while True:
            try:
                wait = self._try()
            # An address that the limiter cannot read is a ValueError.
            except (RedisError, ValueError) as error:
                message = "the shared pace cannot be checked: Redis does not answer"
                raise Paced(message, wait=AWAY) from error
            if wait is None:
                return
            # Many may wait for one place, so it is the whole wait that is bounded.
            if wait > min(left, until.seconds_left):
                message = "the target's requests_per_second are used up"
                raise Paced(message, wait=timedelta(seconds=wait))
            self._sleep(wait)
            left -= wait

    def _try(self) -> float | None:
        """Take a place; seconds until there may be one where there is none."""
        if self._limiter is None:
            self._limiter = _open(self._url)
        if self._limiter.hit(self._item, "pace", self._target):
            return None
        stats = self._limiter.get_window_stats(self._item, "pace", self._target)
        return max(stats.reset_time - time.time(), 0.01)


def rate_of(requests_per_second: float) -> "RateLimitItemPerSecond":
    """A pace that no second exceeds: rounded down to so many a second, or one in so many.

    A finer fraction, such as 101 in 100 seconds, would let all of them out at once.

    >>> rate_of(0.5), rate_of(20), rate_of(2.5)
    (1 per 2 second, 20 per 1 second, 2 per 1 second)
    """
    from limits import RateLimitItemPerSecond

    if requests_per_second >= 1:
        return RateLimitItemPerSecond(math.floor(min(requests_per_second, MOST_A_SECOND)), 1)
    return RateLimitItemPerSecond(1, min(math.ceil(1 / requests_per_second), LONGEST_WINDOW))


def storage_url(redis_url: str) -> str:
    """The address as `limits` spells it.

    >>> storage_url("redis+socket:///run/valkey.sock?virtual_host=2")
    'redis+unix:///run/valkey.sock?db=2'
    """
    if not redis_url.startswith("redis+socket://"):
        return redis_url
    address = redis_url.replace("redis+socket://", "redis+unix://", 1)
    return re.sub(r"(?<=[?&])virtual_host=/?", "db=", address)


def ping(redis_url: str) -> str | None:
    """Why the broker does not answer, or None where it does; bounded in time.

    Only the kind of the fault: its words may hold a password of the address.
    """
    from redis import Redis
    from redis.exceptions import RedisError

    url = storage_url(redis_url).replace("redis+unix://", "unix://", 1)
    options: Any = {"socket_timeout": ANSWER_TAKES, "socket_connect_timeout": ANSWER_TAKES}
    try:
        with Redis.from_url(url, **options) as client:
            client.ping()
    # An address that it cannot read is a ValueError.
    except (RedisError, OSError, ValueError) as error:
        return f"the broker does not answer: {type(error).__name__}"
    return None


def _open(url: str) -> "MovingWindowRateLimiter":
    """Bounded sockets and one try: a worker is not held longer than it may wait."""
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: Any = {
        "socket_timeout": ANSWER_TAKES,
        "socket_connect_timeout": ANSWER_TAKES,
        "retry": Retry(NoBackoff(), 1),
    }
    storage = RedisStorage(url, key_prefix="deletions", wrap_exceptions=False, **options)
    return MovingWindowRateLimiter(storage)
