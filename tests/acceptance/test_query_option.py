"""`--query`: found, shown, asked, and only then deleted."""

import json
import sqlite3
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.terminal import Terminal, service

QUERY = json.dumps({"older_than": {"column": "seen_at", "age": "30d"}})


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A folder with a table in which every other of 40 rows is old."""
    table = """
[targets.visits]
adapter = "sql_table"
url = "sqlite:///visits.sqlite"
table = "visits"
key = "id"
query_columns = ["seen_at"]
allow_query = true
"""
    with Terminal(more=table) as terminal:
        with sqlite3.connect(terminal.folder / "visits.sqlite") as database:
            database.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY, seen_at TIMESTAMP)")
            database.executemany(
                "INSERT INTO visits VALUES (?, datetime('now', ?))",
                [(n, f"-{10 if n % 2 else 100} days") for n in range(40)],
            )
        yield terminal


def rows_left(terminal: Terminal) -> int:
    with sqlite3.connect(terminal.folder / "visits.sqlite") as database:
        found: int = database.execute("SELECT count(*) FROM visits").fetchone()[0]
    return found


def test_what_a_query_finds_is_deleted(terminal: Terminal) -> None:
    ended = terminal.run("run", "visits", "--query", QUERY, "--output", "-")

    assert ended.code == 0
    assert [row["item"] for row in ended.rows] == list(range(0, 40, 2))
    assert rows_left(terminal) == 20


@pytest.mark.parametrize(
    ("answer", "code", "left"), [pytest.param("y", 0, 20, marks=pytest.mark.soak), ("n", 3, 40)]
)
def test_a_person_sees_what_was_found_and_is_asked(
    terminal: Terminal, answer: str, code: int, left: int
) -> None:
    ended = terminal.type("run", "visits", "--query", QUERY, keys=f"{answer}\n")

    assert "delete the 20 items that were found from visits" in ended.err
    assert (ended.code, rows_left(terminal)) == (code, left)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("{}", "an empty query would find every row"),
        (
            '{"where": [{"column": "id", "op": "=", "value": 1}]}',
            "not in the target's query_columns",
        ),
        ("[]", "expected a JSON object"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused_before_anything_starts(
    terminal: Terminal, query: str, said: str
) -> None:
    began = time.monotonic()

    ended = terminal.run("run", "visits", "--query", query)

    assert ended.code == 2
    assert said in ended.err
    assert not (terminal.data_dir / "logs").exists()
    assert time.monotonic() - began < 10


@pytest.mark.soak
def test_a_dry_run_is_executed_as_it_was_frozen(terminal: Terminal) -> None:
    with service(terminal):
        plan = terminal.run("submit", "visits", "--query", QUERY, "--dry-run", "--wait")
        name = plan.out.splitlines()[0]
        with sqlite3.connect(terminal.folder / "visits.sqlite") as database:
            # One is renewed meanwhile, and another one grows old.
            database.execute("UPDATE visits SET seen_at = datetime('now') WHERE id = 2")
            database.execute("UPDATE visits SET seen_at = datetime('now', '-99 days') WHERE id = 1")

        ended = terminal.run("submit", "--plan", name, "--wait")

        rows = terminal.run("results", ended.out.splitlines()[0]).rows
    assert (plan.code, ended.code) == (0, 1)
    assert [row["item"] for row in rows] == list(range(0, 40, 2))
    assert [(row["verdict"], row["code"]) for row in rows if row["item"] == 2] == [
        ("denied", "no_longer_matches")
    ]
    assert rows_left(terminal) == 21
