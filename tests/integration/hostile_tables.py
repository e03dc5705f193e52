"""Tables whose rows are texts that break something, and a service that deletes from them.

with standing("sqlite", directory) as deployment:
    deployment.submit("numbers", [7])
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from tests.forked import Ended, run_command
from tests.integration.hostile import TEXTS, mixed, twins
from tests.integration.service import Service
from tests.postgres import database
from worker.client import Outcome

#: The most talkative: nothing of it may hold an item.
LOUD = ("--without-mingle", "--without-gossip", "--loglevel=DEBUG")
HALF = re.compile("[\ud800-\udfff]")
CLOSE = ("office-kiss-17", "zo\u00eb", "\u212a", "x", "a'b", "7")

#: Beyond what a float tells apart, and the edges of the column.
NUMBERS = [
    *(0, 7, -7, 9, 10, 70, 77, 100, 1_000, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2),
    *(2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, -(2**53) - 1, -(2**53)),
]
PAIRS = [
    *((1, "a"), (1, "b"), (2, "a"), (12, "a"), (1, "2"), (1, 'a","b'), (1, '["1","a"]'), (1, "A")),
    *((1, "a' OR '1'='1"), (1, " a"), (1, "a "), (1, "%"), (1, "_"), (1, "a\\"), (1, "")),
]


class Tables:
    """The database that the targets delete from; each of `texts` holds the same rows."""

    def __init__(self, kind: str, url: str, texts: Sequence[str]) -> None:
        self.kind = kind
        self.url = url
        #: The tables of texts.
        self.of_texts = texts
        every = dict.fromkeys([*TEXTS, *CLOSE, *(text for one in CLOSE for text in twins(one))])
        self.texts = sorted(filter(self.is_holdable, every))

    def is_holdable(self, text: str) -> bool:
        """Whether a row can have it, with an index beside it."""
        if not text or HALF.search(text) or len(text.encode()) > 1_024:
            return False
        return not (self.kind == "postgresql" and "\0" in text)

    def fill(self) -> None:
        """Make every table with its rows."""
        # In SQLite only BINARY tells the twins apart that such a column folds.
        own = " COLLATE NOCASE" if self.kind == "sqlite" else ""
        exactly = " COLLATE BINARY" if self.kind == "sqlite" else ""
        for table in self.of_texts:
            self._run(f"CREATE TABLE {table} (id TEXT{own})")
            self._run(f"CREATE UNIQUE INDEX unique_{table} ON {table} (id{exactly})")
            self._insert(table, [(text,) for text in self.texts])
        self._run("CREATE TABLE numbers (id BIGINT PRIMARY KEY)")
        self._insert("numbers", [(number,) for number in NUMBERS])
        self._run("CREATE TABLE pairs (tenant BIGINT, name TEXT, PRIMARY KEY (tenant, name))")
        self._insert("pairs", PAIRS)

    def left(self, table: str) -> list[Any]:
        """What is there now."""
        with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(f"SELECT * FROM {table}")
            rows = cursor.fetchall()
        return sorted(row[0] if len(row) == 1 else row for row in rows)

    def configuration(self) -> str:
        """Each table as a target."""
        keys = {table: ["id"] for table in ("numbers", *self.of_texts)}
        keys["pairs"] = ["tenant", "name"]
        return "\n".join(
            f'[targets.{table}]\nadapter = "sql_table"\nurl = {json.dumps(self.url)}\n'
            f'table = "{table}"\nkey = {json.dumps(key)}\n'
            for table, key in keys.items()
        )

    def _run(self, statement: str) -> None:
        with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement)
            connection.commit()

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        marks = ", ".join(["?" if self.kind == "sqlite" else "%s"] * len(rows[0]))
        with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            connection.commit()

    def _connect(self) -> Any:
        url = make_url(self.url)
        if self.kind == "sqlite":
            return sqlite3.connect(str(url.database))
        return psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database)


@dataclass(frozen=True)
class Deployment:
    """One service and the tables that it deletes from."""

    service: Service
    tables: Tables

    def asked(self) -> list[str]:
        """Every other text that is there, and such as nobody has."""
        nobody_has = [text for text in TEXTS if not self.tables.is_holdable(text)]
        strange = [f"{text}\u0338 nobody" for text in self.tables.texts[::9]]
        return mixed(self.tables.texts[::2], nobody_has, strange)

    def submit(self, target: str, items: Iterable[Any]) -> list[Outcome]:
        """Hand items over in a message; what became of them."""
        with self.service.client() as client:
            job = client.submit(target, items)
        return self.outcomes(job)

    def outcomes(self, job: str) -> list[Outcome]:
        """What became of a job, at its end."""
        with self.service.client() as client:
            assert client.wait(job).state == "completed"
            return list(client.results(job))

    def run(self, *arguments: str) -> Ended:
        """Run a command of ours to its end."""
        return run_command(arguments, folder=self.service.directory, environ=self.service.environ)


class _ServiceOn(Service):
    """A service whose store may be somewhere else than beside it."""

    def __init__(self, store_url: str | None, configuration: str) -> None:
        super().__init__(targets={}, toml_extra=configuration, worker_options=LOUD)
        self._store_url = store_url

    def _environ(self, secrets: Mapping[str, str]) -> dict[str, str]:
        elsewhere = {"DELETIONS_STORE_URL": self._store_url} if self._store_url else {}
        return {**super()._environ(secrets), **elsewhere}


@contextmanager
def standing(
    kind: str, directory: Path, *, texts: Sequence[str] = ("rows",)
) -> Iterator[Deployment]:
    """A service on filled tables; on PostgreSQL its store is there as well."""
    with ExitStack() as opened:
        if kind == "sqlite":
            file = directory / "rows.sqlite3"
            file.touch()
            url, store_url = f"sqlite:///{file}", None
        else:
            url, store_url = opened.enter_context(database()), opened.enter_context(database())
        tables = Tables(kind, url, texts)
        tables.fill()
        service = _ServiceOn(store_url, tables.configuration())
        yield Deployment(opened.enter_context(service), tables)
