"""Transactions that end by a call's deadline, and errors told as the worker knows them."""

import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import ceil
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from api_adapters.base import Deadline
from api_adapters.errors import Hopeless, Refused, Transient
from api_adapters.sql_table.alarms import Alarms
from api_adapters.sql_table.failures import (
    Kept,
    failure,
    is_outdated,
    not_connected,
    unreadable,
)
from api_adapters.sql_table.transacting import begin_deleting, begin_looking, commit, roll_back

#: Seconds after the deadline at which a server that does not even answer its
#: own statement timeout is left.
GRACE = 1.0

_POSTGRESQL = {
    "application_name": "deletion-worker sql_table",
    # Whatever the database's own is: what it has no letter for is the server's to say.
    "client_encoding": "UTF8",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

#: Transactions begin and end by our own statements: in PostgreSQL the first one
#: says all that holds for the others.
_BY_HAND = {"isolation_level": "AUTOCOMMIT"}


class _Opening:
    """A connection that is being opened: what is asked before it is used ends in time too."""

    def __init__(self, until: Deadline) -> None:
        self._until = until
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._is_late = False

    def open(self, connect: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Log in, in whole seconds, as the driver counts them."""
        most = min(named["connect_timeout"], ceil(self._until.seconds_left))
        connection = connect(*given, **named | {"connect_timeout": max(1, most)})
        with self._lock:
            self._descriptor = os.dup(connection.fileno())
            if self._is_late:
                _hang_up(self._descriptor)
        return connection

    def hang_up(self) -> None:
        """Let whoever waits for an answer see the connection's end."""
        with self._lock:
            self._is_late = True
            if self._descriptor is not None:
                _hang_up(self._descriptor)

    def close(self) -> None:
        """What is open from here on is somebody else's to watch."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None


#: By thread: what is opened just now. The pool opens connections on its own account.
_opening = threading.local()


class Database:
    """One database; connections are opened when they are first needed."""

    def __init__(self, address: Callable[[], URL], *, connections: int) -> None:
        self._address = address
        self._connections = connections
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._alarms = Alarms()

    @contextmanager
    def deleting(self, until: Deadline) -> Iterator[Connection]:
        """One transaction that writes, and that is not committed after its deadline.

        Raises:
            Transient, Refused, Hopeless; Kept: a row may not be deleted.
        """
        with self._transaction(until, begin_deleting) as connection:
            yield connection
            if until.seconds_left <= 0:
                # Each statement has the whole time; what they did together came too late.
                raise Transient("the time of the call is used up", may_have_run=False)

    @contextmanager
    def looking(self, until: Deadline) -> Iterator[Connection]:
        """One transaction that only reads. Raises Transient, Refused, Hopeless."""
        try:
            with self._transaction(until, begin_looking) as connection:
                yield connection
        except Kept as kept:
            raise Refused(
                "the database stumbles over a row or a value", may_have_run=False, code=kept.code
            ) from kept

    def close(self) -> None:
        """Give back connections; safe to repeat."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _transaction(
        self, until: Deadline, begin: Callable[[Connection, Deadline], None]
    ) -> Iterator[Connection]:
        if until.seconds_left <= 0:
            raise Transient("the time of the call is used up", may_have_run=False)
        connection = self._connect(until)
        try:
            with _cut_off(connection, until, self._alarms):
                try:
                    begin(connection, until)
                    yield connection
                    commit(connection)
                finally:
                    # A server that stops answering here is left like any other.
                    with suppress(DBAPIError):
                        roll_back(connection)
        except DBAPIError as error:
            if is_outdated(error.orig):
                # After an earlier rollback psycopg would send it again and again.
                with suppress(DBAPIError):
                    connection.invalidate()
            raise failure(error) from error
        except UnicodeError as error:
            raise unreadable(error) from error
        finally:
            if connection.engine is not self._engine:
                # It was closed meanwhile, and what comes back to it stays open.
                with suppress(DBAPIError):
                    connection.invalidate()
            connection.close()

    def _connect(self, until: Deadline) -> Connection:
        engine = self._current_engine()
        opening = _opening.connection = _Opening(until)
        try:
            with self._alarms.after(until.seconds_left + GRACE, opening.hang_up):
                return engine.connect()
        except DBAPIError as error:
            raise not_connected(error.orig) from error
        except PoolTimeout as error:
            raise Transient("no connection is free", may_have_run=False) from error
        finally:
            opening.close()

    def _current_engine(self) -> Engine:
        """The engine of the address as it is now: a secret may have been changed."""
        url = self._address()
        with self._lock:
            if self._engine is not None and self._engine.url != url:
                self._engine.dispose()
                self._engine = None
            if self._engine is None:
                self._engine = _make_engine(url, self._connections)
            return self._engine


def _make_engine(url: URL, connections: int) -> Engine:
    options: dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": connections,
        "max_overflow": 2,
        "pool_timeout": 10,
        # Parameters are items: an error must not tell them to a log.
        "hide_parameters": True,
    }
    if url.get_backend_name() == "sqlite":
        return _make_sqlite_engine(url, options)
    try:
        engine = create_engine(url, connect_args=_POSTGRESQL, **options, **_BY_HAND)
    except ModuleNotFoundError as error:
        raise Hopeless(
            "psycopg is missing: install 'deletion-worker[postgresql]' where the workers run",
            may_have_run=False,
            closes_target=True,
        ) from error

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, given: Any, named: Any) -> Any:
        return _opening.connection.open(dialect.connect, *given, **named)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("SELECT set_config('timezone', 'UTC', false)")
        connection.commit()

    return engine


def _make_sqlite_engine(url: URL, options: dict[str, Any]) -> Engine:
    # Opened as it is: SQLite would make an empty file of a wrong path.
    file = f"file:{quote(url.database or '')}?mode=rw"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, uri=True, check_same_thread=False)

    engine = create_engine(url, creator=connect, **options, **_BY_HAND)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    return engine


@contextmanager
def _cut_off(connection: Connection, until: Deadline, alarms: Alarms) -> Iterator[None]:
    """Break off what runs at the deadline, whether or not the server does it."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        with alarms.after(until.seconds_left, driver.interrupt):
            yield
        return
    descriptor = os.dup(driver.fileno())
    try:
        with alarms.after(until.seconds_left + GRACE, partial(_hang_up, descriptor)):
            yield
    finally:
        os.close(descriptor)


def _hang_up(descriptor: int) -> None:
    """Let whoever waits for this connection see its end."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(socket.SHUT_RDWR)
