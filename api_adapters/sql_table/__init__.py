"""Rows of one table, in PostgreSQL or SQLite, deleted by their key.

statement   DELETE FROM table WHERE key IN (...) RETURNING key: one a call, in
            a transaction of its own
proves      every row by its key, once the commit is answered
batch       1,000 keys; SQLite takes 30,000 values a statement
missing id  a key that is neither returned nor there afterwards
repeat      safe: a second call finds nothing
refusal     a row that a foreign key, a constraint or a trigger keeps is
            denied; the call is halved until it stands alone, so that the
            others are deleted
values      ints, texts, UUIDs, dates, times, decimals, bytes (as hex). A row
            has one spelling, the one that `find` gives: 17 and "17" are one
            key, "017" is rejected for an integer column
check       connects, reads the table's columns, and has the deletion explained,
            which needs the same rights; it cannot show what keeps single rows
find        pages by key, never by OFFSET; a row without a key stops it, since
            such a row cannot be named
dates       SQLite has no type for them: what is written as one counts as one,
            in columns of texts too, and nothing else does; a date without a
            time is old once its whole day is
source      the documentation of both databases; SQLAlchemy Core reflects the
            table on first use
"""

from api_adapters.sql_table.adapter import SqlTable
from api_adapters.sql_table.settings import SqlTableSettings

__all__ = ["SqlTable", "SqlTableSettings"]
