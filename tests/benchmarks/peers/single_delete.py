"""The floor for tables: one statement for everything, and no outcome of any row."""

import psycopg


def purge(conninfo: str) -> int:
    """Delete every row of `events` that is older than a quarter; how many there were."""
    with psycopg.connect(conninfo) as connection:
        old = "DELETE FROM events WHERE created_at < now() - interval '90 days'"
        return connection.execute(old).rowcount
