"""A practice table in a database of its own, and the mixed lot that is deleted from it."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from worker.cli.comparing import Ledger, compare
from worker.cli.lot import Spellings, Stock, mixed_lot
from worker.item import Outcome

#: One row in so many is held by a row of another table, or asked for by nobody.
HELD_EVERY = 2_000
LEFT_EVERY = 1_000
#: Out of so many items of the lot one is missing, doubled, or malformed.
MISSING_EVERY = 500
DOUBLED_EVERY = 500
MALFORMED_EVERY = 5_000

#: The same key in another form: a string of digits is that integer.
_SPELLINGS = Spellings(
    write=int,
    respell=str,
    malformed=({"badge": 17}, None, 1.5, True),
    # Only a look at the table tells that its keys are integers.
    refused=("seventeen",),
)


class VisitorTable:
    """`visitors` with integer keys, some of which `invoices` refers to."""

    name = "visitors"

    def __init__(self, folder: Path, *, rows: int, seed: int) -> None:
        self._path = folder / "visitors.sqlite3"
        self._ids = frozenset(map(str, range(1, rows + 1)))
        held = range(HELD_EVERY, rows + 1, HELD_EVERY)
        self._fill(rows, held)
        there = [str(key) for key in range(1, rows + 1) if key % LEFT_EVERY != 1]
        missing = [str(key) for key in range(rows + 1, rows + 1 + rows // MISSING_EVERY)]
        self._lot = mixed_lot(
            Stock(there, missing, frozenset(map(str, held))),
            _SPELLINGS,
            doubled=rows // DOUBLED_EVERY,
            malformed=rows // MALFORMED_EVERY,
            seed=seed,
        )

    @property
    def asked(self) -> list[Any]:
        """The mixed lot that is submitted."""
        return [wanted.item for wanted in self._lot]

    @property
    def configuration(self) -> str:
        """The table as a target."""
        return f"""
[targets.{self.name}]
adapter = "sql_table"
url = "sqlite:///{self._path}"
table = "visitors"
key = "id"
"""

    @property
    def environment(self) -> Mapping[str, str]:
        """A file has no secrets."""
        return {}

    @property
    def trouble(self) -> str:
        """What stands against a deletion."""
        with closing(sqlite3.connect(self._path)) as connection:
            (held,) = connection.execute("SELECT count(*) FROM invoices").fetchone()
        return f"{held:,} rows are held by another table"

    def faults(self, outcomes: Iterable[Outcome]) -> tuple[int, list[str]]:
        """Hold outcomes against the table itself; how many, and what differs."""
        with closing(sqlite3.connect(self._path)) as connection:
            rows = connection.execute("SELECT id FROM visitors")
            left = frozenset(str(key) for (key,) in rows)
        gone = self._ids - left
        return compare(self._lot, outcomes, Ledger(remaining=left, deleted=gone, sent=gone))

    def _fill(self, rows: int, held: Iterable[int]) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executescript(
                """
                PRAGMA journal_mode = WAL;
                CREATE TABLE visitors (id INTEGER PRIMARY KEY, badge TEXT NOT NULL);
                CREATE TABLE invoices (visitor INTEGER NOT NULL REFERENCES visitors (id));
                """
            )
            connection.executemany(
                "INSERT INTO visitors VALUES (?, ?)",
                ((key, f"badge {key}") for key in range(1, rows + 1)),
            )
            connection.executemany("INSERT INTO invoices VALUES (?)", ((key,) for key in held))
