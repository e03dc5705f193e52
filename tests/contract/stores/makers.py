"""How each store is made; one line here puts the whole suite on another store."""

import atexit
import shutil
import tempfile
from collections.abc import Callable

from tests.contract.stores.borrowed import BorrowedStore
from tests.factories import Clock
from tests.postgres import make_store
from worker.store.base import Store
from worker.store.memory import MemoryStore
from worker.store.migrations import prepare


def make_memory(clock: Clock) -> Store:
    """The in-memory twin."""
    return MemoryStore(clock)


def make_sqlite(clock: Clock) -> Store:
    """A database in a file."""
    return BorrowedStore(_make_file, clock=clock)


def make_postgresql(clock: Clock) -> Store:
    """A database on a server that the tests start."""
    return BorrowedStore(make_store, clock=clock)


MAKERS: dict[str, Callable[[Clock], Store]] = {
    "memory": make_memory,
    "sqlite": make_sqlite,
    "postgresql": make_postgresql,
}


def _make_file() -> str:
    directory = tempfile.mkdtemp(prefix="stores-")
    atexit.register(shutil.rmtree, directory)
    url = f"sqlite:///{directory}/store.sqlite3"
    prepare(url)
    return url
