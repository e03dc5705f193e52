"""One client of Redis a channel, as long as the channel has the same pool."""

from kombu.transport.redis import Channel
from redis import ConnectionPool, Redis

from worker.redis_clients import client_of


class Bare(Channel):  # type: ignore[misc]  # Celery publishes no types
    """A channel that has opened nothing: a pool connects with its first command."""

    def __init__(self) -> None:
        self.Client = Redis

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:  # noqa: FBT001, FBT002
        return ConnectionPool()

    def __del__(self) -> None:
        """There is nothing to close."""


def test_a_channel_has_one_client() -> None:
    one = Bare()

    assert client_of(one) is client_of(one)
    assert client_of(one).connection_pool is one.pool


def test_another_pool_has_another_client() -> None:
    one = Bare()
    before = client_of(one)
    one._pool = None

    after = client_of(one)

    assert after is not before
    assert after.connection_pool is one.pool
