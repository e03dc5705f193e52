"""How each store is made; one line here puts the whole suite on another store."""

from collections.abc import Callable
from pathlib import Path

from tests.factories import Clock
from worker.store.base import Store
from worker.store.memory import MemoryStore


def make_memory(clock: Clock, directory: Path) -> Store:
    """The in-memory twin."""
    return MemoryStore(clock)


def make_sqlite(clock: Clock, directory: Path) -> Store:
    """A database in a file of its own."""
    from worker.store.migrations import prepare
    from worker.store.sql import SqlStore

    url = f"sqlite:///{directory / 'store.sqlite'}"
    prepare(url)
    return SqlStore(url, clock=clock)


def make_postgresql(clock: Clock, directory: Path) -> Store:
    """A database on a server that the tests start."""
    from tests.postgres import BorrowedStore

    return BorrowedStore(clock)


MAKERS: dict[str, Callable[[Clock, Path], Store]] = {
    "memory": make_memory,
    "sqlite": make_sqlite,
    "postgresql": make_postgresql,
}
