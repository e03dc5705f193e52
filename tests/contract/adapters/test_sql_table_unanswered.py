"""A database that stops answering, or answers what nobody expects."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from api_adapters.base import Deadline
from api_adapters.contract import soon
from api_adapters.errors import Hopeless, Transient
from api_adapters.sql_table.connecting import GRACE, Database
from tests.acceptance.fire.network import HOST, Network
from tests.contract.adapters.sql_tables import Place, place
from tests.integration.service import wait_until

#: Seconds after which a call with a deadline of one has to be over on any machine.
OVER = 1 + GRACE + 8


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Place]:
    """A table of three rows."""
    with place("postgresql", tmp_path) as found:
        found.run("CREATE TABLE rows (id int PRIMARY KEY)", "INSERT INTO rows VALUES (1), (2), (3)")
        yield found


def in_a_second() -> Deadline:
    return Deadline(timedelta(seconds=1))


def backends(rows: Place) -> list[int]:
    named = "SELECT pid FROM pg_stat_activity WHERE application_name = 'deletion-worker sql_table'"
    own = f"{named} AND datname = current_database()"
    return [pid for (pid,) in rows.run(own)]


def test_a_server_that_stops_before_the_rollback_is_left(rows: Place) -> None:
    database = Database(lambda: make_url(rows.url), connections=1)
    stopped: list[int] = []

    def break_off() -> None:
        with database.deleting(in_a_second()):
            stopped.extend(backends(rows))
            os.kill(stopped[0], signal.SIGSTOP)
            raise Hopeless("for a reason", may_have_run=False)

    began = time.monotonic()
    try:
        with pytest.raises(Hopeless, match="for a reason"):
            break_off()
        took = time.monotonic() - began
    finally:
        os.kill(stopped[0], signal.SIGCONT)
        database.close()

    assert took < OVER


def end_all(rows: Place) -> None:
    """End the backends of the adapter's connections, and wait until they are gone."""
    for pid in backends(rows):
        rows.run(f"SELECT pg_terminate_backend({pid})")
    wait_until(lambda: not backends(rows))


def test_a_commit_that_nobody_answers_may_have_run(rows: Place) -> None:
    database = Database(lambda: make_url(rows.url), connections=1)

    def lose_the_commit() -> None:
        with database.deleting(soon()) as connection:
            connection.exec_driver_sql("DELETE FROM rows")
            end_all(rows)

    with pytest.raises(Transient) as told:
        lose_the_commit()
    with database.deleting(soon()) as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM rows").scalar_one()
    database.close()

    assert told.value.may_have_run
    assert left == 3


def test_connections_that_ended_while_they_were_idle_cost_one_attempt(rows: Place) -> None:
    database = Database(lambda: make_url(rows.url), connections=2)
    with database.deleting(soon()), database.deleting(soon()):
        assert len(backends(rows)) == 2
    end_all(rows)

    def begin() -> None:
        with database.deleting(soon()):
            pass

    with pytest.raises(Transient) as told:
        begin()
    begin()
    database.close()

    assert not told.value.may_have_run
    assert "administrator command" in str(told.value)


def test_what_was_done_too_late_is_taken_back(rows: Place) -> None:
    database = Database(lambda: make_url(rows.url), connections=1)

    def delete_late() -> None:
        with database.deleting(in_a_second()) as connection:
            connection.exec_driver_sql("DELETE FROM rows")
            time.sleep(1.1)

    with pytest.raises(Transient) as told:
        delete_late()
    database.close()

    assert not told.value.may_have_run
    assert rows.run("SELECT count(*) FROM rows") == [(3,)]


def test_a_connection_that_is_held_after_its_login_is_left(
    rows: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, log_in = make_url(rows.url), psycopg.connect
    with Network() as network:
        line = network.lay_to_socket(f"{url.query['host']}/.s.PGSQL.5432")

        def log_in_and_no_more(*given: Any, **named: Any) -> Any:
            connection = log_in(*given, **named)
            line.strand()
            return connection

        led = url.difference_update_query(["host"]).set(host=HOST, port=line.port)
        adapter = rows.adapter(url=led.render_as_string())
        monkeypatch.setattr(psycopg, "connect", log_in_and_no_more)
        began = time.monotonic()
        with pytest.raises(Transient) as told:
            adapter.delete({"1": 1}, until=in_a_second())
        took = time.monotonic() - began
        monkeypatch.undo()

    # It was held, and not refused.
    assert 1 < took < OVER
    assert not told.value.may_have_run
    assert rows.run("SELECT count(*) FROM rows") == [(3,)]


def test_what_was_in_use_when_it_was_closed_is_not_left_open(rows: Place) -> None:
    database = Database(lambda: make_url(rows.url), connections=2)
    with database.deleting(soon()):
        database.close()
        assert backends(rows)

    wait_until(lambda: not backends(rows), seconds=OVER)


@pytest.mark.parametrize("by_query", [False, True])
def test_a_rule_that_does_something_else_is_told(rows: Place, *, by_query: bool) -> None:
    rows.run(
        "ALTER TABLE rows ADD gone bool DEFAULT false",
        "CREATE RULE soft AS ON DELETE TO rows DO INSTEAD"
        " UPDATE rows SET gone = true WHERE id = OLD.id RETURNING OLD.id, OLD.gone",
    )
    adapter = rows.adapter(query_columns=["gone"])
    where = [{"column": "gone", "op": "=", "value": False}]
    query = adapter.freeze({"where": where}, until=soon())
    delete = partial(adapter.delete_found, query=query) if by_query else adapter.delete

    with pytest.raises(Hopeless, match="a rule does something else") as told:
        delete({"1": 1}, until=soon())

    assert not told.value.may_have_run
    assert rows.run("SELECT count(*) FROM rows WHERE gone") == [(0,)]


def test_a_key_that_names_several_rows_deletes_none(rows: Place) -> None:
    rows.run("CREATE TABLE child () INHERITS (rows)", "INSERT INTO child VALUES (1)")

    with pytest.raises(Hopeless, match="names several rows") as told:
        rows.adapter().delete({"1": 1, "2": 2}, until=soon())

    assert not told.value.may_have_run
    assert rows.run("SELECT count(*) FROM rows") == [(4,)]


def test_a_column_that_was_changed_meanwhile_costs_one_attempt(rows: Place) -> None:
    adapter = rows.adapter()
    # The driver prepares a statement that it has seen five times.
    for _ in range(8):
        adapter.delete({"1": 1}, until=soon())
    rows.run("ALTER TABLE rows ALTER id TYPE bigint")

    with pytest.raises(Transient) as told:
        adapter.delete({"2": 2}, until=soon())
    reply = adapter.delete({"2": 2}, until=soon())

    assert not told.value.may_have_run
    assert reply.findings["2"].verdict == "deleted"
