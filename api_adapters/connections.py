"""The open connections to one target.

httpcore2's own pool looks at all its connections, twice a request, for the
origin that a request wants. All ours lead to one origin: the one that was used
last is taken, and looked at alone.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore2

from api_adapters.base import Deadline


class Connections:
    """What the pool opens, used again; at most `limit` at a time. Threads share it."""

    def __init__(
        self, pool: httpcore2.ConnectionPool, origin: httpcore2.Origin, limit: int
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._places = threading.BoundedSemaphore(limit)
        #: Taking from its end and putting there is one step for all threads.
        self._idle: list[httpcore2.ConnectionInterface] = []
        self._is_closed = False

    @contextmanager
    def one(self, until: Deadline) -> Iterator[httpcore2.ConnectionInterface]:
        """Lend a connection for one request.

        Raises:
            httpcore2.PoolTimeout: none became free in time.
        """
        if not self._places.acquire(timeout=max(until.seconds_left, 0)):
            raise httpcore2.PoolTimeout
        try:
            connection = self._take() or self._pool.create_connection(self._origin)
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close those that are idle now, and the others when they are given back."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> httpcore2.ConnectionInterface | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not connection.has_expired():
                return connection
            connection.close()

    def _give_back(self, connection: httpcore2.ConnectionInterface) -> None:
        if connection.is_idle() and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()
