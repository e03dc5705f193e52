"""Brings a store to this program's migration, or says why it is not there.

An empty store is made ready by whoever comes first. A store that has another
migration is left alone: an older one is moved on by `deletions migrate`, when
no worker of the older program runs any more; a newer one needs a newer program.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import DBAPIError

from worker.errors import StoreUnavailable, WrongMigration
from worker.store.dialect import Dialect
from worker.store.sql import dialect_of

#: This program's migration.
HEAD = "0010"


def prepare(url: str) -> None:
    """Make an empty store ready; check that any other is at our migration.

    Raises:
        WrongMigration: it is at another one; the message says what to do.
        StoreUnavailable: it does not answer.
    """
    with _exclusive(url) as connection:
        match _current(connection):
            case None:
                _steps().upgrade(connection)
            case current if current != HEAD:
                raise WrongMigration(_advice(current))


def check(url: str) -> None:
    """Look whether a store is at our migration; nothing is made or changed.

    Raises:
        WrongMigration: it is at another one, or nobody has made it ready.
        StoreUnavailable: it does not answer.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise StoreUnavailable(f"there is no store {parsed.database} yet: a worker makes it")
    with _opened(parsed) as dialect, dialect.reading() as connection:
        current = _current(connection)
    if current is None:
        raise WrongMigration("the store is empty: the first worker makes it ready")
    if current != HEAD:
        raise WrongMigration(_advice(current))


def migrate(url: str) -> str | None:
    """Move an older store on; the migration it was at, or None for an empty one.

    Raises:
        WrongMigration: it is newer than this program.
        StoreUnavailable: it does not answer.
    """
    with _exclusive(url) as connection:
        current = _current(connection)
        if current is not None and current not in _steps().known():
            raise WrongMigration(_advice(current))
        _steps().upgrade(connection)
        return current


@contextmanager
def _exclusive(url: str) -> Iterator[Connection]:
    """One transaction, so that two who come at once make one store."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        _make_file(Path(parsed.database))
    with _opened(parsed) as dialect, dialect.writing_alone() as connection:
        yield connection


@contextmanager
def _opened(url: URL) -> Iterator[Dialect]:
    """A store that is closed afterwards. Raises StoreUnavailable."""
    dialect = dialect_of(url)
    try:
        yield dialect
    except DBAPIError as error:
        raise StoreUnavailable(f"the store does not answer: {error.orig}") from error
    finally:
        dialect.engine.dispose()


def _make_file(path: Path) -> None:
    """An empty file that only its owner may read. Raises StoreUnavailable."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"the store {path} cannot be opened: {error.strerror}") from error


def _current(connection: Connection) -> str | None:
    """The store's migration; None for a store without one.

    Raises:
        WrongMigration: there are tables of ours, but no migration is noted.
    """
    if connection.dialect.has_table(connection, "alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if found is not None:
            return str(found)
    if connection.dialect.has_table(connection, "jobs"):
        raise WrongMigration(
            "the store has a table 'jobs' but no migration is noted in it: "
            "expected an empty database or one that this program made"
        )
    return None


def _steps() -> ModuleType:
    """Alembic's part; importing it takes longer than most commands do, so only
    a store that is not at our migration waits for it.
    """
    return import_module("worker.store.migrations.steps")


def _advice(current: str) -> str:
    """What a store at another migration needs."""
    if current in _steps().known():
        return (
            f"the store is at migration {current}, this program needs {HEAD}: "
            "stop the workers, make a backup and run `deletions migrate`"
        )
    return (
        f"the store is at migration {current}, which this program does not know "
        f"(it needs {HEAD}): run the newer program that made it"
    )
