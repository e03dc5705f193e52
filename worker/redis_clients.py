"""What kombu and Celery ask of Redis, asked with less.

kombu makes a client for each message that is published, taken or acknowledged. A
client opens no connection of its own, it takes one of the channel's pool for
each command; but making it builds a table of some 300 commands. Beside that,
nearly half of the commands that a small request cost were not needed.
"""

from functools import partial
from typing import Any

from celery.backends.redis import RedisBackend
from kombu.transport.redis import Channel

_make = Channel._create_client  # noqa: SLF001 (kombu has no other place for it)


def ask_for_less() -> None:
    """Let this process make one client a channel and pool, and send what follows below."""
    Channel._create_client = client_of  # noqa: SLF001
    RedisBackend._store_result = keep_answer  # noqa: SLF001


def client_of(channel: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 (kombu's)
    """The channel's client; threads may share it, as they share its pool."""
    # One that waits for messages has a connection to itself, and kombu keeps it.
    if asynchronous:
        return _make(channel, asynchronous=True)
    kept = channel.__dict__.get("kept_client")
    # After a connection was lost the channel has another pool.
    if kept is None or kept.connection_pool is not channel.pool:
        kept = channel.kept_client = _make(channel)
        kept.pipeline = partial(_pipeline, kept)
    return kept


def _pipeline(client: Any, transaction: bool = False, *options: Any) -> Any:  # noqa: FBT001, FBT002
    """Commands that are sent together, as a transaction only where that is asked for.

    What kombu notes of a message and drops again, it notes in two places, of
    which either may be missing.
    """
    return type(client).pipeline(client, transaction, *options)


def keep_answer(
    backend: Any,
    task_id: str,
    result: Any,
    state: str,
    traceback: Any = None,
    *,
    request: Any = None,
    **_: Any,
) -> Any:
    """Keep an answer and announce it.

    Celery looks first whether there is one that says success. Whatever is asked
    of us twice may be answered twice: the last answer is as good as the first.
    """
    meta = backend._get_result_meta(  # noqa: SLF001
        result=result, state=state, traceback=traceback, request=request
    )
    meta["task_id"] = task_id
    key = backend.get_key_for_task(task_id)
    backend._set_with_state(key, backend.encode(meta), state)  # noqa: SLF001
    return result
