"""How a transaction begins and ends, by statements of our own."""

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api_adapters.base import Deadline
from api_adapters.sql_table.failures import not_connected

#: What psycopg says where there is no transaction to end.
_ENDED = {"IDLE", "UNKNOWN"}
#: How long each statement of a transaction may take in PostgreSQL.
_TIME = "SET LOCAL statement_timeout = {milliseconds}"


def begin_deleting(connection: Connection, until: Deadline) -> None:
    """Begin one that writes. Raises Transient, Hopeless: nothing was asked."""
    # Deferred constraints speak up at the statement, where their rows can be told apart.
    more = "; SET CONSTRAINTS ALL IMMEDIATE"
    _begin(connection, until, on_sqlite="BEGIN IMMEDIATE", on_postgresql=f"BEGIN; {_TIME}{more}")


def begin_looking(connection: Connection, until: Deadline) -> None:
    """Begin one that reads. Raises Transient, Hopeless: nothing was asked."""
    _begin(connection, until, on_sqlite="BEGIN", on_postgresql=f"BEGIN READ ONLY; {_TIME}")


def _begin(connection: Connection, until: Deadline, *, on_sqlite: str, on_postgresql: str) -> None:
    """Begin a transaction whose statements have the time that is left."""
    milliseconds = max(1, int(until.seconds_left * 1000))
    why: BaseException | None = None
    try:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
            connection.exec_driver_sql(on_sqlite)
            return
        said = on_postgresql.format(milliseconds=milliseconds)
        if (why := _say(connection, said)) is not None:
            # What this raises has all connections dropped that are lost, and knows no more why.
            connection.exec_driver_sql(said)
    except DBAPIError as error:
        # Nothing was asked yet, so an idle connection that had ended costs nothing.
        raise not_connected(why or error.orig) from error


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
    driver = _driver(connection)
    wrong: BaseException | None = None
    try:
        result = driver.pgconn.exec_(statement.encode())
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            # Of several errors the result is the last; why it was closed is the first.
            wrong = (
                psycopg.OperationalError(driver.pgconn.get_error_message())
                if driver.closed
                else psycopg.errors.error_from_result(result)
            )
    except psycopg.Error as error:
        wrong = error
    return wrong


def _driver(connection: Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.driver_connection
