"""What only a server can do to the store: end sessions, hold locks, be away."""

import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import make_url

from tests.contract.stores.steps import Steps
from tests.factories import chunk_of, keys, new_job
from tests.integration.stores import empty_store
from worker.errors import BadConfiguration, StoreUnavailable
from worker.store.postgresql import FEW_ROWS
from worker.store.sql import SqlStore


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty store."""
    with empty_store("postgresql", tmp_path_factory.getbasetemp()) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """The same, opened."""
    store = SqlStore(url)
    yield store
    store.close()


def connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """A session beside the store's."""
    parsed = make_url(url)
    return psycopg.connect(
        host=str(parsed.query["host"]), user=parsed.username, dbname=parsed.database
    )


def test_ended_sessions_cost_one_answer(url: str, store: SqlStore) -> None:
    steps = Steps(store)
    # Several sessions lie in the pool, all of which the server ends.
    threads = [threading.Thread(target=steps.submitted) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connect(url) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'deletion-worker' AND datname = current_database()"
        )

    with pytest.raises(StoreUnavailable):
        store.jobs(limit=1)

    assert all(store.jobs(limit=1) for _ in range(8))
    assert Steps(store).running()


def test_a_session_that_ends_in_a_bulk_insertion_is_told(url: str, store: SqlStore) -> None:
    # Their prints are in more parts than are inserted one by one.
    many = 20 * FEW_ROWS
    job = store.open(new_job(chunk_items=many)).id
    with connect(url) as session:
        session.execute("BEGIN")
        session.execute("LOCK TABLE prints IN ACCESS EXCLUSIVE MODE")
        killer = threading.Thread(target=kill_the_copy, args=[url])
        killer.start()

        with pytest.raises(StoreUnavailable):
            store.append(job, chunk_of(keys(many)))
        killer.join()

    assert store.append(job, chunk_of(keys(many))).id == job
    assert store.job(job).items == many


def kill_the_copy(url: str) -> None:
    """End the session that waits to copy."""
    with connect(url) as session:
        session.autocommit = True
        while not session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%'"
        ).rowcount:
            time.sleep(0.01)


def test_a_lock_that_does_not_come_is_told(url: str, store: SqlStore) -> None:
    job = Steps(store).submitted()
    with connect(url) as session:
        session.execute("SELECT * FROM jobs FOR UPDATE")

        with pytest.raises(StoreUnavailable, match="lock timeout"):
            store.begin_planning(job, holder="w", lasting=timedelta(seconds=1))


def test_sessions_bear_bounded_waits_alone(store: SqlStore) -> None:
    with store.dialect.reading() as connection:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            found = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            assert found not in {"0", ""}


def test_the_stores_clock_is_the_servers(store: SqlStore) -> None:
    job = store.submit(new_job(), chunk_of(keys(1)))

    with store.dialect.reading() as connection:
        now = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    assert timedelta() <= now - job.created_at < timedelta(seconds=30)


def test_a_missing_driver_is_a_fault_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(BadConfiguration, match=r"deletion-worker\[postgresql\]"):
        SqlStore("postgresql://me@host/store")
