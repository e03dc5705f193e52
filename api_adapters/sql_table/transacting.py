"""How a transaction begins and ends, by statements of our own."""

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api_adapters.base import Deadline
from api_adapters.sql_table.failures import not_connected

#: What psycopg says where there is no transaction to end.
_ENDED = {"IDLE", "UNKNOWN"}


def begin_deleting(connection: Connection, until: Deadline) -> None:
    """Begin one that writes. Raises Transient, Hopeless: nothing was asked."""
    # Deferred constraints speak up at the statement, where their rows can be told apart.
    _begin(connection, until, "BEGIN IMMEDIATE", "BEGIN", "; SET CONSTRAINTS ALL IMMEDIATE")


def begin_looking(connection: Connection, until: Deadline) -> None:
    """Begin one that reads. Raises Transient, Hopeless: nothing was asked."""
    _begin(connection, until, "BEGIN", "BEGIN READ ONLY")


def _begin(
    connection: Connection, until: Deadline, on_sqlite: str, on_postgresql: str, more: str = ""
) -> None:
    """Begin a transaction whose statements have the time that is left."""
    milliseconds = max(1, int(until.seconds_left * 1000))
    try:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
            connection.exec_driver_sql(on_sqlite)
            return
        said = f"{on_postgresql}; SET LOCAL statement_timeout = {milliseconds}{more}"
        if _say(connection, said) is not None:
            # What this raises has all connections dropped that are lost.
            connection.exec_driver_sql(said)
    except DBAPIError as error:
        # Nothing was asked yet, so an idle connection that had ended costs nothing.
        raise not_connected(error) from error


def commit(connection: Connection) -> None:
    """Commit. Raises DBAPIError."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("COMMIT")
    elif (error := _say(connection, "COMMIT")) is not None:
        if is_lost := _driver(connection).closed:
            # As SQLAlchemy does with its own: nobody is to end what has ended.
            connection.invalidate(error)
        raise DBAPIError.instance(
            "COMMIT",
            None,
            error,
            connection.dialect.loaded_dbapi.Error,
            connection_invalidated=is_lost,
            dialect=connection.dialect,
        )


def roll_back(connection: Connection) -> None:
    """End what was not committed. Raises DBAPIError."""
    if connection.invalidated:
        return
    driver = _driver(connection)
    if connection.dialect.name == "sqlite":
        is_open = driver.in_transaction
    else:
        is_open = driver.info.transaction_status.name not in _ENDED
    if is_open:
        connection.exec_driver_sql("ROLLBACK")


def _say(connection: Connection, statement: str) -> BaseException | None:
    """Have PostgreSQL carry out what answers nothing; what went wrong, if anything did.

    By libpq itself: with a cursor and a result for each, begin and commit took as
    long as it takes to name a thousand rows and to hear of them.
    """
    psycopg: Any = connection.dialect.loaded_dbapi
    try:
        result = _driver(connection).pgconn.exec_(statement.encode())
    except psycopg.Error as error:
        return error  # type: ignore[no-any-return]
    if result.status == psycopg.pq.ExecStatus.COMMAND_OK:
        return None
    return psycopg.errors.error_from_result(result)  # type: ignore[no-any-return]


def _driver(connection: Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.driver_connection
