"""The Redis clients of kombu's channels: one a channel.

kombu makes one for each message that is published, taken or acknowledged. A
client opens no connection of its own, it takes one of the channel's pool for
each command; but making it builds a table of some 300 commands.
"""

from typing import Any

from kombu.transport.redis import Channel

_make = Channel._create_client  # noqa: SLF001 (kombu has no other place for it)


def keep_clients() -> None:
    """Let this process make one client a channel and pool."""
    Channel._create_client = client_of  # noqa: SLF001


def client_of(channel: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 (kombu's)
    """The channel's client; threads may share it, as they share its pool."""
    # One that waits for messages has a connection to itself, and kombu keeps it.
    if asynchronous:
        return _make(channel, asynchronous=True)
    kept = channel.__dict__.get("kept_client")
    # After a connection was lost the channel has another pool.
    if kept is None or kept.connection_pool is not channel.pool:
        kept = channel.kept_client = _make(channel)
    return kept
