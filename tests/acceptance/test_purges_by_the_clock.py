"""Standing orders with a real clock, real workers, a PostgreSQL store and a real table."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.terminal import Terminal, service
from tests.contract.adapters.sql_tables import Place, place
from tests.integration.service import wait_until
from tests.postgres import database

TARGET = """
[targets.events]
adapter = "sql_table"
url = {url}
table = "events"
key = "id"
query_columns = ["kind", "created_at"]
allow_query = true
"""
PURGE = """
[purges.{name}]
target = "events"
query = {{ where = [{{ column = "kind", op = "=", value = "{name}" }}], \
older_than = {{ column = "created_at", age = "90d" }} }}
{options}
"""


@dataclass(frozen=True, slots=True)
class Office:
    """A terminal, and the table that its purges delete from."""

    terminal: Terminal
    table: Place

    def left(self, kind: str) -> int:
        """Rows of a kind."""
        ((count,),) = self.table.run(f"SELECT count(*) FROM events WHERE kind = '{kind}'")
        return int(count)

    def purges(self) -> dict[str, Any]:
        """What `purges --json` tells, by name."""
        return {one["name"]: one for one in self.terminal.run("purges", "--json").rows}

    def history(self, name: str) -> list[dict[str, Any]]:
        """What `purges history --json` tells."""
        return self.terminal.run("purges", "history", name, "--json").rows

    def wait_for(self, name: str, *, state: str) -> str:
        """Wait until a run is in this state; its job."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = [one["job"] for one in self.history(name) if one["state"] == state]
            return bool(found)

        wait_until(is_there)
        return found[-1]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Three kinds of 20 old and 20 young rows, and a purge for each kind."""
    with ExitStack() as opened:
        store = opened.enter_context(database())
        table = opened.enter_context(place("postgresql", tmp_path))
        table.run(
            "CREATE TABLE events (id bigint PRIMARY KEY, kind text, created_at timestamptz)",
            "INSERT INTO events SELECT n, (ARRAY['fresh', 'large', 'plain'])[n % 3 + 1],"
            " now() - CASE WHEN n < 60 THEN interval '100 days' ELSE interval '1 day' END"
            " FROM generate_series(0, 119) AS n",
        )
        more = TARGET.format(url=json.dumps(table.url)) + "".join(
            PURGE.format(name=name, options=options)
            for name, options in {
                "fresh": 'every = "10s"',
                "large": 'every = "10s"\ntrusted = true\nmax_items = 5',
                "plain": 'every = "10s"\ntrusted = true\nalert_after = "1h"',
            }.items()
        )
        terminal = opened.enter_context(Terminal({}, more=more))
        terminal.environ["DELETIONS_STORE_URL"] = store
        yield Office(terminal, table)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_three_purges_run_by_the_clock_and_their_brakes_hold(office: Office) -> None:
    terminal = office.terminal
    with service(terminal):
        # The trusted one deletes by itself, and nothing but what is old.
        office.wait_for("plain", state="completed")
        assert office.left("plain") == 20

        # The new one and the large one have found and frozen, and wait.
        fresh = office.wait_for("fresh", state="awaiting_approval")
        large = office.wait_for("large", state="awaiting_approval")
        assert (office.left("fresh"), office.left("large")) == (40, 40)
        assert "max_items of 5" in terminal.run("status", large).out
        assert "is new or was changed" in terminal.run("explain", fresh).out
        assert not office.purges()["fresh"]["approved"]

        # While one waits, the next ones are left out, and told.
        wait_until(lambda: office.history("fresh")[0]["outcome"] == "skipped")

        # Approved, they delete exactly what was shown.
        office.table.run(
            "UPDATE events SET created_at = now() WHERE id IN"
            " (SELECT min(id) FROM events WHERE kind = 'fresh')"
        )
        for job in (fresh, large):
            assert terminal.run("approve", job, "--by", "Ann").code == 0
        assert terminal.run("watch", fresh).code == 1
        assert terminal.run("watch", large).code == 0
        assert (office.left("fresh"), office.left("large")) == (21, 20)
        shown = office.purges()
        assert shown["fresh"]["approved"]
        assert not any(one["overdue"] for one in shown.values())

        # From now on the approved one runs by itself.
        office.table.run(
            "UPDATE events SET created_at = now() - interval '100 days'"
            " WHERE kind = 'fresh' AND id >= 60"
        )
        wait_until(lambda: office.left("fresh") == 1)

        # By hand, with the schedule left alone.
        by_hand = terminal.run("purges", "run", "plain", "--dry-run", "--wait", "--by", "Ann")
        assert by_hand.code == 0
        assert terminal.run("status", by_hand.out.strip()).code == 0

    jobs = terminal.run("jobs", "--json").rows
    assert {one["requested_by"] for one in jobs} == {"purge fresh", "purge large", "purge plain"}
    due = [one["due_at"] for one in office.history("plain")]
    assert len(due) == len(set(due))


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A purge that no clock has seen, of a table that is not there yet."""
    table = TARGET.format(url='"sqlite:///events.sqlite"')
    options = 'cron = "15 3 * * *"\ntimezone = "Europe/Berlin"'
    with Terminal({}, more=table + PURGE.format(name="old", options=options)) as terminal:
        yield terminal


def test_a_purge_is_told_before_any_clock_has_seen_it(terminal: Terminal) -> None:
    ended = terminal.run("purges", "list")
    (row,) = terminal.run("purges", "--json").rows

    assert ended.code == 0
    assert "15 3 * * * Europe/Berlin" in ended.out
    assert "unapproved" in ended.out
    assert (row["name"], row["target"], row["last_run"]) == ("old", "events", None)
    assert row["next_due_at"] > "2026"


def test_a_purge_that_is_not_there_is_told_with_those_that_are(terminal: Terminal) -> None:
    for command in ("history", "run"):
        ended = terminal.run("purges", command, "older")
        assert ended.code == 2
        assert "there is no purge 'older'; configured: old" in ended.err


def test_a_person_is_shown_the_address_and_asked(terminal: Terminal) -> None:
    ended = terminal.type("purges", "run", "old", keys="n\n")

    assert ended.code == 3
    assert "delete what purge 'old' finds from events (sqlite:///" in ended.err
    assert terminal.run("jobs", "--json").rows == []


def test_a_run_by_hand_prints_its_job_and_is_told_with_who(terminal: Terminal) -> None:
    ended = terminal.run("purges", "run", "old", "--by", "Ann", "--reason", "audit")

    job = ended.out.strip()
    assert ended.code == 0
    assert terminal.run("purges", "history", "old", "--json").rows[0]["job"] == job
    (event,) = [
        one for one in terminal.run("events", job, "--json").rows if one["kind"] == "purge.run"
    ]
    assert (event["by"], event["detail"]["reason"]) == ("Ann", "audit")
    assert terminal.run("purges", "run", "old").code == 2
    assert job in terminal.run("purges", "run", "old").err


def test_pruning_by_hand_is_one_event(terminal: Terminal) -> None:
    shown = terminal.run("prune", "--dry-run")
    ended = terminal.run("prune", "--yes", "--by", "Ann")

    assert (shown.code, ended.code) == (0, 0)
    assert "dropped the items of 0 jobs, declined 0" in ended.err
    (event,) = terminal.run("events", "--json").rows
    assert (event["kind"], event["by"]) == ("store.pruned", "Ann")
