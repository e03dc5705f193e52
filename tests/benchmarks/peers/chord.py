"""The chord that everyone writes: a task a chunk, and one that gathers what they return."""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import cache
from itertools import chain

import httpx
from celery import Celery, chord

from tests.benchmarks.link_ids import chunks
from tests.benchmarks.peers.base import BROKER_URL, DATABASE, DELETE_URL

app = Celery("chord", broker=os.environ[BROKER_URL], backend=os.environ[BROKER_URL])
app.conf.task_acks_late = True


@cache
def http() -> httpx.Client:
    """One client a process, so that connections are used again."""
    return httpx.Client(timeout=30)


@app.task
def delete_batch(link_ids: list[str]) -> list[tuple[str, str]]:
    """Delete one chunk."""
    url = os.environ[DELETE_URL]
    response = http().request("DELETE", url, json={"link_ids": link_ids})
    response.raise_for_status()
    return [(row["link_id"], row["extended_info"]) for row in response.json()["result"]]


@app.task
def aggregate(batches: list[list[tuple[str, str]]]) -> int:
    """Keep every outcome."""
    with closing(sqlite3.connect(os.environ[DATABASE])) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS outcomes (link_id TEXT, outcome TEXT)")
        rows = chain.from_iterable(batches)
        return database.executemany("INSERT INTO outcomes VALUES (?, ?)", rows).rowcount


def purge(link_ids: Iterable[str], size: int) -> int:
    """Delete everything; how many outcomes were kept."""
    running = chord(delete_batch.s(chunk) for chunk in chunks(link_ids, size))(aggregate.s())
    kept: int = running.get()
    return kept
