"""One Celery task an item, each with its result."""

import os
from collections.abc import Iterable
from functools import cache

import httpx
from celery import Celery

from tests.benchmarks.peers.base import BROKER_URL, DELETE_URL

app = Celery("per_item", broker=os.environ[BROKER_URL], backend=os.environ[BROKER_URL])
app.conf.task_acks_late = True


@cache
def http() -> httpx.Client:
    """One client a process, so that connections are used again."""
    return httpx.Client(timeout=30)


@app.task
def delete_contact(link_id: str) -> str:
    """Delete one contact."""
    url = os.environ[DELETE_URL]
    response = http().request("DELETE", url, json={"link_ids": [link_id]})
    response.raise_for_status()
    outcome: str = response.json()["result"][0]["extended_info"]
    return outcome


def purge(link_ids: Iterable[str], size: int) -> int:
    """Delete everything, whatever `size` is; how many outcomes came back."""
    running = [delete_contact.delay(link_id) for link_id in link_ids]
    return len([result.get() for result in running])
