"""Real stores in databases of their own, and processes and threads that use one at once."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.postgres import database
from worker.store.migrations import prepare
from worker.store.sql import SqlStore

Thing = TypeVar("Thing")


@contextmanager
def empty_store(kind: str, directory: Path) -> Iterator[str]:
    """The URL of an empty store."""
    if kind == "sqlite":
        url = f"sqlite:///{directory / 'store.sqlite3'}"
        prepare(url)
        yield url
        return
    with database() as url:
        prepare(url)
        yield url


def in_processes(work: Callable[..., Thing], arguments: Sequence[tuple[Any, ...]]) -> list[Thing]:
    """Run `work` once in each of so many processes, all of them at once."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(arguments)) as pool:
        return pool.starmap(work, arguments, chunksize=1)


def at_once(url: str, *works: Callable[[SqlStore], Thing]) -> list[Thing | Exception]:
    """Do things at the same moment, each with a store of its own; errors are answers."""
    barrier = threading.Barrier(len(works))

    def do(work: Callable[[SqlStore], Thing]) -> Thing | Exception:
        store = SqlStore(url)
        try:
            store.jobs(limit=1)  # Connected: what follows begins at the same moment.
            barrier.wait()
            return work(store)
        except Exception as error:  # noqa: BLE001 (told to the test)
            return error
        finally:
            store.close()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(do, works))
