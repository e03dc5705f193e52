"""A practice table in a database of its own, and the mixed lot that is deleted from it."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

#: One row in so many is held by a row of another table.
HELD_EVERY = 2_000
#: Out of so many items of the lot one is missing, doubled, or malformed.
MISSING_EVERY = 500
DOUBLED_EVERY = 500
MALFORMED_EVERY = 5_000

_MALFORMED: tuple[Any, ...] = ("seventeen", {"badge": 17}, None, 1.5, True)


class VisitorTable:
    """`visitors` with integer keys, some of which `invoices` refers to."""

    name = "visitors"

    def __init__(self, folder: Path, *, rows: int, seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 (a demonstration that can be repeated)
        self._path = folder / "visitors.sqlite3"
        self._held = set(range(HELD_EVERY, rows + 1, HELD_EVERY))
        self._fill(rows)
        ids = range(1, rows + 1)
        missing = range(rows + 1, rows + 1 + rows // MISSING_EVERY)
        # The same key in another form: a string of digits is that integer.
        doubled = [str(dice.choice(ids)) for _ in range(rows // DOUBLED_EVERY)]
        malformed = [dice.choice(_MALFORMED) for _ in range(rows // MALFORMED_EVERY)]
        self.asked: list[Any] = [*ids, *missing, *doubled, *malformed]
        dice.shuffle(self.asked)

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

    def faults(self, outcomes: Iterator[dict[str, Any]]) -> tuple[int, list[str]]:
        """Hold outcomes against the table itself; how many, and what differs."""
        with closing(sqlite3.connect(self._path)) as connection:
            left = {key for (key,) in connection.execute("SELECT id FROM visitors")}
        faults = [f"{self.name}: {key} is left and nothing holds it" for key in left - self._held]
        number = 0
        for row in outcomes:
            number += 1
            if row["verdict"] in {"deleted", "absent"} and int(row["item"]) in left:
                faults.append(f"{self.name}: {row['item']} is called gone and is still there")
        return number, faults

    def _fill(self, rows: int) -> None:
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
            held = ((key,) for key in sorted(self._held))
            connection.executemany("INSERT INTO invoices VALUES (?)", held)
