"""What is different on SQLite."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import QueuePool

from worker.store.tables import PLACES_OF_A_PAGE, insertion

#: The engine's clock in milliseconds; SQLite has no finer one.
NOW = text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)")

#: Seconds that a statement waits for a lock that the file lock does not cover,
#: such as that of a checkpoint or of somebody's own client.
BUSY_SECONDS = 10

#: Bytes of a file that is written anew within about a second.
WRITTEN_ANEW_UP_TO = 128 * 1024 * 1024


_TEXTS_OF = "SELECT first, texts FROM pages WHERE job = ? AND first BETWEEN ? AND ? AND last >= ?"


class SqliteDialect:
    """One file, one writer at a time, several processes."""

    insert = staticmethod(sqlite.insert)
    now = NOW
    #: There is one writer, so rows need no locks of their own.
    locks_rows = False
    has_lateral = False
    has_arrays = False
    has_writing_ctes = False

    def __init__(self, url: URL) -> None:
        self.path = Path(url.database or "")
        self.engine = _engine(url)
        self._lock_path = self.path.with_name(self.path.name + ".lock")

    @contextmanager
    def writing(self, *, may_be_lost: bool = False) -> Iterator[Connection]:
        """One transaction that writes.

        SQLite's own busy handler polls and is unfair: claims waited for up to
        8 s beside appenders. Behind a file lock, whose waiters the kernel
        queues, a deferred transaction cannot fail on its upgrade either.
        """
        with self._turn(), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def writing_alone(self) -> AbstractContextManager[Connection]:
        """There is one writer at a time as it is."""
        return self.writing()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that reads one state of the store."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def peeking(self) -> AbstractContextManager[Connection]:
        """A transaction costs nothing here."""
        return self.reading()

    def plan_once(self, connection: Connection) -> None:
        """A statement is planned in next to no time here."""

    def sweep(self) -> None:
        """Write the file anew, and empty the write-ahead log, which holds what pages were.

        `secure_delete` overwrites what is deleted, but not the copies that an
        earlier parting of a page left in its gaps: of 14,000 deleted items
        three were still to be read. A large file is left at that, since nobody
        may write meanwhile. A reader that does not end in time keeps the log
        until the next sweep.
        """
        with self._turn(), self.engine.connect() as connection:
            if self.path.stat().st_size <= WRITTEN_ANEW_UP_TO:
                connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def texts_of(
        self, connection: Connection, stretches: Sequence[tuple[int, int, int]]
    ) -> list[tuple[int, int, str]]:
        """One index scan a stretch; a statement costs next to nothing here."""
        return [
            (job, page, texts)
            for job, first, last in stretches
            for page, texts in connection.exec_driver_sql(
                _TEXTS_OF, (job, first - PLACES_OF_A_PAGE + 1, last, first)
            )
        ]

    def is_inside(self, column: Any, part: bytes) -> ColumnElement[bool]:
        """SQLite looks into bytes as it does into texts."""
        return func.instr(column, part) > 0

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """By the driver's executemany."""
        connection.exec_driver_sql(insertion(table, "?"), list(rows))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The one writer's turn, among threads and processes."""
        file = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def _engine(url: URL) -> Engine:
    """An engine whose transactions are begun by us alone."""
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=64,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        isolation_level="AUTOCOMMIT",
        # Parameters are items: an error must not tell them to a log.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # WAL lets readers read beside the writer; FULL makes a commit durable.
        # What is deleted is overwritten, and not only left out of the tree.
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine
