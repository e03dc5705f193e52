"""Tables to delete from, in both databases."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from api_adapters.contract import FreePace
from api_adapters.sql_table import SqlTable, SqlTableSettings
from tests.postgres import database


class Place:
    """One database of a test."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        self.adapters: list[SqlTable] = []

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return rows

    def connect(self) -> Any:
        """A connection of the test's own."""
        url = make_url(self.url)
        if self.kind == "sqlite":
            return sqlite3.connect(str(url.database))
        return psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database)

    def adapter(self, **settings: Any) -> SqlTable:
        """An adapter on this database; its table is `rows`, its key `id`."""
        given = {"adapter": "sql_table", "url": self.url, "table": "rows", "key": "id"} | settings
        made = SqlTable(SqlTableSettings.model_validate(given), pace=FreePace())
        self.adapters.append(made)
        return made


@contextmanager
def place(kind: str, directory: Path) -> Iterator[Place]:
    """An empty database."""
    if kind == "sqlite":
        file = directory / "rows.sqlite3"
        file.touch()
        with _closing(Place(kind, f"sqlite:///{file}")) as found:
            yield found
        return
    with database() as url, _closing(Place(kind, url)) as found:
        yield found


@contextmanager
def _closing(found: Place) -> Iterator[Place]:
    """Close the adapters that a test made, whatever came of them."""
    try:
        yield found
    finally:
        for adapter in found.adapters:
            adapter.close()
