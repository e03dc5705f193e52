"""What is different on PostgreSQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError

from worker.errors import BadConfiguration

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
FEW_ROWS = 10

#: The lock of whoever makes or migrates the store: any number, always the same.
MIGRATION_LOCK = 7_305_804_402_566_000_001


class PostgresqlDialect:
    """A server with many writers, whose rows are locked one by one."""

    insert = staticmethod(postgresql.insert)
    now = NOW
    locks_rows = True
    has_lateral = True
    has_arrays = True

    def __init__(self, url: URL) -> None:
        self.engine = _engine(url)
        # One state of the store for all statements of a transaction.
        self._readers = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

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

    def sweep(self) -> None:
        """The server's own vacuum does it."""

    def items_of(
        self, connection: Connection, ranges: Sequence[tuple[int, int, int]]
    ) -> dict[tuple[int, int], list[tuple[int, str]]]:
        """One index scan a range, one row a range, one statement whatever their number."""
        jobs, firsts, lasts = (list(part) for part in zip(*ranges, strict=True))
        found = connection.execute(_ITEMS_OF, {"jobs": jobs, "firsts": firsts, "lasts": lasts})
        return {
            (job, first): list(zip(positions, texts, strict=True))
            for job, first, positions, texts in found
            if positions is not None
        }

    def protected_of(
        self,
        connection: Connection,
        ranges: Sequence[tuple[int, int, int]],
        *,
        target: str,
        now: int,
    ) -> list[tuple[int, int, bytes]]:
        """One index scan a range, one look into the keys an item, one statement."""
        jobs, firsts, lasts = (list(part) for part in zip(*ranges, strict=True))
        of = {"jobs": jobs, "firsts": firsts, "lasts": lasts, "target": target, "now": now}
        return [(job, at, key) for job, at, key in connection.execute(_PROTECTED_OF, of)]

    def insert_items(
        self, connection: Connection, rows: Sequence[tuple[int, int, str, bytes | None]]
    ) -> None:
        """Insert (job, position, item, key) in bulk."""
        if len(rows) <= FEW_ROWS:
            connection.exec_driver_sql(
                "INSERT INTO items (job, position, item, key) VALUES (%s, %s, %s, %s)", list(rows)
            )
            return
        driver: Any = connection.connection.driver_connection
        copy_in = "COPY items (job, position, item, key) FROM STDIN (FORMAT BINARY)"
        try:
            with driver.cursor() as cursor, cursor.copy(copy_in) as copy:
                copy.set_types(("int8", "int8", "text", "bytea"))
                for row in rows:
                    copy.write_row(row)
        # The driver is used directly here, so its error is not wrapped yet.
        except self.engine.dialect.loaded_dbapi.OperationalError as error:
            raise OperationalError(
                copy_in, None, error, connection_invalidated=driver.closed
            ) from error


#: A join by BETWEEN without LATERAL reads the whole job for each range.
_ITEMS_OF = text(
    """
    SELECT r.job, r.first, one.positions, one.texts
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[]))
        AS r (job, first, last),
    LATERAL (
        SELECT array_agg(i.position ORDER BY i.position) AS positions,
               array_agg(i.item ORDER BY i.position) AS texts
        FROM items i
        WHERE i.job = r.job AND i.position BETWEEN r.first AND r.last
    ) AS one
    """
)


#: The limits keep the planner from reading all protected keys for each range.
_PROTECTED_OF = text(
    """
    SELECT r.job, i.position, i.key
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[]))
        AS r (job, first, last),
    LATERAL (
        SELECT one.position, one.key FROM items one
        WHERE one.job = r.job AND one.position BETWEEN r.first AND r.last OFFSET 0
    ) AS i,
    LATERAL (
        SELECT 1 FROM protected p
        WHERE p.target = :target AND p.key = i.key AND (p.until IS NULL OR p.until > :now)
        LIMIT 1
    ) AS kept
    """
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
