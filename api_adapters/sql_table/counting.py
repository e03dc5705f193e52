"""Deletions that are only counted: where all rows were there, that tells of each of them.

To tell the keys, and to read them, takes PostgreSQL and its driver half as long again
as to delete the rows. The count is as good where every row has a key of its own, is
compared exactly, and nothing else happens in place of its deletion: the statement
itself looks whether that is so, and deletes nothing otherwise.
"""

from collections.abc import Mapping
from typing import Any, Self

from sqlalchemy import Connection, Integer, Uuid

from api_adapters.sql_table.key_table import PSYCOPG, KeyTable

#: Of other types two values may be equal that are written differently.
_EXACT = (Integer, Uuid)
#: Calls that tell their rows after one in which some were not deleted: it is seldom alone.
TELLING_CALLS = 100

#: No rule, no table that inherits from it, no trigger but those of foreign keys, and
#: a unique index on the key that holds at any time and for every row.
_IS_PLAIN = """
    SELECT NOT t.relhasrules AND NOT t.relhassubclass
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal
        ) AND EXISTS (
            SELECT FROM pg_catalog.pg_index AS i
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = t.oid AND a.attname = {column} AND i.indnkeyatts = 1
                AND i.indisunique AND i.indisvalid AND i.indimmediate
                AND i.indpred IS NULL AND i.indexprs IS NULL
        )
    FROM pg_catalog.pg_class AS t WHERE t.oid = CAST({table} AS pg_catalog.regclass)
"""


class Missing(Exception):
    """Fewer rows were deleted than were named: all of it is to be taken back."""


class Counting:
    """Deletes what is likely to be there, all of it or nothing."""

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._statement = _counted(table)
        self._calls_to_tell = 0

    @classmethod
    def of(cls, table: KeyTable) -> Self | None:
        """None where the number of a table's rows would not tell which they were."""
        is_exact = table.takes_array and isinstance(table.key[0].type, _EXACT)
        return cls(table) if is_exact else None

    def is_worth_it(self) -> bool:
        """Whether all rows of the next call are likely to be there, as they were of late."""
        if self._calls_to_tell:
            self._calls_to_tell -= 1
        return not self._calls_to_tell

    def delete(self, connection: Connection, values: Mapping[str, Any]) -> None:
        """Delete the rows with these values. Raises Missing: fewer were, and none may be."""
        found = connection.exec_driver_sql(self._statement, self._table.wanted(values))
        if found.rowcount != len(values):
            self._calls_to_tell = TELLING_CALLS
            raise Missing


def _counted(table: KeyTable) -> str:
    """The statement, as the driver takes it."""
    named = {
        "table": _quoted(PSYCOPG.identifier_preparer.format_table(table.table)),
        "column": _quoted(table.names[0].replace("%", "%%")),
    }
    return f"{table.plain_deletion.compile(dialect=PSYCOPG)} AND ({_IS_PLAIN.format(**named)})"


def _quoted(name: str) -> str:
    """A name as a text of SQL."""
    return "'{}'".format(name.replace("'", "''"))
