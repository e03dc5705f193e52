"""A dramatiq actor a batch, its outcomes in Redis."""

import os
from collections.abc import Iterable
from functools import cache

import dramatiq
import httpx
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests.benchmarks.link_ids import chunks
from tests.benchmarks.peers.base import BROKER_URL, DELETE_URL

#: In milliseconds: until the last result is there.
PATIENCE = 3_600_000

broker = RedisBroker(url=os.environ[BROKER_URL])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ[BROKER_URL])))
dramatiq.set_broker(broker)


@cache
def http() -> httpx.Client:
    """One client a process, so that connections are used again."""
    return httpx.Client(timeout=30)


@dramatiq.actor(store_results=True)
def delete_batch(link_ids: list[str]) -> dict[str, str]:
    """Delete one batch."""
    url = os.environ[DELETE_URL]
    response = http().request("DELETE", url, json={"link_ids": link_ids})
    response.raise_for_status()
    return {row["link_id"]: row["extended_info"] for row in response.json()["result"]}


def purge(link_ids: Iterable[str], size: int) -> int:
    """Delete everything; how many outcomes came back."""
    running = dramatiq.group([delete_batch.message(chunk) for chunk in chunks(link_ids, size)])
    results = running.run().get_results(block=True, timeout=PATIENCE)
    return sum(len(outcomes) for outcomes in results)
