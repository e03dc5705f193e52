"""Brings a store to this program's migration, or says why it is not there.

An empty store is made ready by whoever comes first. A store that has another
migration is left alone: an older one is moved on by `deletions migrate`, when
no worker of the older program runs any more; a newer one needs a newer program.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError

from worker.errors import StoreUnavailable, WrongMigration
from worker.store.dialect import Dialect
from worker.store.sql import dialect_of


def prepare(url: str) -> None:
    """Make an empty store ready; check that any other is at our migration.

    Raises:
        WrongMigration: it is at another one; the message says what to do.
        StoreUnavailable: it does not answer.
    """
    with _exclusive(url) as connection:
        match _current(connection):
            case None:
                _upgrade(connection)
            case current if current != _head():
                raise WrongMigration(_advice(current))


def migrate(url: str) -> str | None:
    """Move an older store on; the migration it was at, or None for an empty one.

    Raises:
        WrongMigration: it is newer than this program.
        StoreUnavailable: it does not answer.
    """
    with _exclusive(url) as connection:
        current = _current(connection)
        if current is not None and current not in _known():
            raise WrongMigration(_advice(current))
        _upgrade(connection)
        return current


@contextmanager
def _exclusive(url: str) -> Iterator[Connection]:
    """One transaction, so that two who come at once make one store."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        _make_file(Path(parsed.database))
    dialect: Dialect = dialect_of(parsed)
    try:
        with dialect.writing_alone() as connection:
            yield connection
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


def _config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str | None:
    """The store's migration; None for a store without one.

    Raises:
        WrongMigration: there are tables of ours, but no migration is noted.
    """
    current: str | None = MigrationContext.configure(connection).get_current_revision()
    if current is None and connection.dialect.has_table(connection, "jobs"):
        raise WrongMigration(
            "the store has a table 'jobs' but no migration is noted in it: "
            "expected an empty database or one that this program made"
        )
    return current


def _head() -> str:
    """This program's migration."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _known() -> set[str]:
    """All migrations that this program knows."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _upgrade(connection: Connection) -> None:
    """Run what is missing."""
    command.upgrade(_config(connection), "head")


def _advice(current: str) -> str:
    """What a store at another migration needs."""
    if current in _known():
        return (
            f"the store is at migration {current}, this program needs {_head()}: "
            "stop the workers, make a backup and run `deletions migrate`"
        )
    return (
        f"the store is at migration {current}, which this program does not know "
        f"(it needs {_head()}): run the newer program that made it"
    )
