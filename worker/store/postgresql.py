"""What is different on PostgreSQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    func,
    literal,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError

from worker.errors import BadConfiguration
from worker.store.tables import PLACES_OF_A_PAGE, insertion

#: The server's clock, which goes on within a transaction, in milliseconds.
NOW = text("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")

#: What a session bears. A worker that is frozen, or vanishes, with a lock costs
#: the others seconds. A lock is held for milliseconds, so one that does not
#: come in 5 s is stuck. The longest statement looks for the duplicates of a
#: job, about two seconds for a million items.
SESSION = {
    "statement_timeout": "60s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
    # A plan without the values cannot use the partial indexes, and one that was
    # made while the tables were small reads all of a large job.
    "plan_cache_mode": "force_custom_plan",
    # Everything that is asked has its index. Where half of a table matches, all
    # of it would be read for the first match, which may be its last row.
    "enable_seqscan": "off",
}

#: Seconds and probes after which a silent connection counts as lost. The last
#: one, in milliseconds, is for what was sent and is not acknowledged.
CONNECTION = {
    "application_name": "deletion-worker",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

#: Connections of one process. Transactions are short, so a thread waits for
#: milliseconds; a hundred connections are all that a server has by default.
MOST_CONNECTIONS = 16

#: So few rows are inserted sooner than copied.
FEW_ROWS = 5

#: The lock of whoever makes or migrates the store: any number, always the same.
MIGRATION_LOCK = 7_305_804_402_566_000_001


class PostgresqlDialect:
    """A server with many writers, whose rows are locked one by one."""

    insert = staticmethod(postgresql.insert)
    now = NOW
    locks_rows = True
    has_lateral = True
    has_arrays = True
    has_writing_ctes = True

    def __init__(self, url: URL) -> None:
        self.engine = _engine(url)
        # One state of the store for all statements of a transaction.
        self._readers = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

        self._peekers = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def writing(self, *, may_be_lost: bool = False) -> Iterator[Connection]:
        """One transaction that writes.

        At READ COMMITTED each statement sees what was committed before it, so
        that whoever waited for a row then reads what it waited for.
        """
        with self.engine.begin() as connection:
            if may_be_lost:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            yield connection

    @contextmanager
    def writing_alone(self) -> Iterator[Connection]:
        """One transaction that nobody else who asks for this is in."""
        with self.engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            # A migration may take its time.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that reads one state of the store."""
        with self._readers.begin() as connection:
            yield connection

    @contextmanager
    def peeking(self) -> Iterator[Connection]:
        """Reading without a transaction, whose begin and end are a round trip each."""
        with self._peekers.connect() as connection:
            yield connection

    def plan_once(self, connection: Connection) -> None:
        """See `SESSION` for what may not be planned so."""
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")

    def sweep(self) -> None:
        """The server's own vacuum does it."""

    def texts_of(
        self, connection: Connection, stretches: Sequence[tuple[int, int, int]]
    ) -> list[tuple[int, int, str]]:
        """One index scan a stretch, one statement whatever their number."""
        jobs, firsts, lasts = (list(part) for part in zip(*stretches, strict=True))
        of = {"jobs": jobs, "firsts": firsts, "lasts": lasts}
        return [(job, page, texts) for job, page, texts in connection.execute(_TEXTS_OF, of)]

    def is_inside(self, column: Any, part: bytes) -> ColumnElement[bool]:
        """By SQL's own word for it."""
        return func.position(literal(part).op("IN")(column)) > 0

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """A few are inserted, more are copied."""
        if len(rows) <= FEW_ROWS:
            given = rows[0] if len(rows) == 1 else list(rows)
            connection.exec_driver_sql(insertion(table, "%b"), given)
            return
        driver: Any = connection.connection.driver_connection
        names = ", ".join(column.name for column in table.c)
        copy_in = f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)"
        try:
            with driver.cursor() as cursor, cursor.copy(copy_in) as copy:
                copy.set_types([type_of(column) for column in table.c])
                for row in rows:
                    copy.write_row(row)
        # The driver is used directly here, so its error is not wrapped yet.
        except self.engine.dialect.loaded_dbapi.OperationalError as error:
            raise OperationalError(
                copy_in, None, error, connection_invalidated=driver.closed
            ) from error


#: What the types of our columns are called here.
_TYPES = {
    BigInteger: "int8",
    Boolean: "bool",
    Integer: "int4",
    LargeBinary: "bytea",
    SmallInteger: "int2",
    String: "varchar",
    Text: "text",
}


def type_of(column: Column[Any]) -> str:
    """What a column's values are sent as: a moment, as the number that it is kept as."""
    kept = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return _TYPES[type(kept)]


#: A join by BETWEEN without LATERAL reads the whole job for each stretch.
_TEXTS_OF = text(
    f"""
    SELECT p.job, p.first, p.texts
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[]))
        AS r (job, first, last),
    LATERAL (
        SELECT * FROM pages
        WHERE pages.job = r.job AND pages.first BETWEEN r.first - {PLACES_OF_A_PAGE - 1} AND r.last
            AND pages.last >= r.first
        OFFSET 0
    ) AS p
    """  # noqa: S608
)


def _engine(url: URL) -> Engine:
    """An engine whose sessions bear what `SESSION` says.

    There is no ping before each use: the first statement after a restart of
    the server fails, empties the pool, and is repeated by whoever sent it.
    """
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=MOST_CONNECTIONS // 2,
            max_overflow=MOST_CONNECTIONS // 2,
            pool_timeout=10,
            # The connection that was used last knows the statements.
            pool_use_lifo=True,
            connect_args=CONNECTION,
            # Parameters are items: an error must not tell them to a log.
            hide_parameters=True,
        )
    except ModuleNotFoundError as error:
        fault = "DELETIONS_STORE_URL names postgresql, which needs psycopg"
        raise BadConfiguration(
            (f"{fault}: install 'deletion-worker[postgresql]' where the workers run",)
        ) from error

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # Not as startup options, which poolers in between refuse.
        settings = ", ".join(
            f"set_config('{name}', '{value}', false)" for name, value in SESSION.items()
        )
        connection.execute(f"SELECT {settings}")
        connection.commit()

    return engine
