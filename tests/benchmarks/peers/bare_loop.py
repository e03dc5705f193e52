"""The floor: one loop that deletes as fast as it can, and writes down in the end."""

import asyncio
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

import aiohttp

from tests.benchmarks.link_ids import chunks
from tests.benchmarks.peers.base import DATABASE, DELETE_URL, IN_FLIGHT

Outcomes = list[tuple[str, str]]


async def _delete_all(parts: Iterator[list[str]], outcomes: Outcomes) -> None:
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(_delete_some(session, parts, outcomes))


async def _delete_some(
    session: aiohttp.ClientSession, parts: Iterator[list[str]], outcomes: Outcomes
) -> None:
    for link_ids in parts:
        async with session.delete(os.environ[DELETE_URL], json={"link_ids": link_ids}) as response:
            response.raise_for_status()
            answer = await response.json()
        outcomes += [(row["link_id"], row["extended_info"]) for row in answer["result"]]


def purge(link_ids: Iterable[str], size: int) -> int:
    """Delete everything; how many outcomes were kept."""
    outcomes: Outcomes = []
    asyncio.run(_delete_all(chunks(link_ids, size), outcomes))
    with closing(sqlite3.connect(os.environ[DATABASE])) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS outcomes (link_id TEXT, outcome TEXT)")
        return database.executemany("INSERT INTO outcomes VALUES (?, ?)", outcomes).rowcount
