"""What is asked all the time costs as much in a large job as in a small one."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps
from tests.factories import appetite, landed
from tests.integration.stores import empty_store
from worker.item import digest_of_key
from worker.job import JobId
from worker.store.base import Who
from worker.store.sql import SqlStore

SMALL, LARGE = 2_000, 40_000
BATCH = 10

Ask = Callable[[SqlStore, JobId, int], object]


def claim_and_record(store: SqlStore, job: JobId, size: int) -> object:
    return Steps(store).record(Steps(store).claim(appetite(call_items=BATCH, calls=3)))


def read_the_last_page(store: SqlStore, job: JobId, size: int) -> object:
    return store.results(job, verdict=None, after=size - 20, limit=100, size=10_000)


def read_the_last_deleted(store: SqlStore, job: JobId, size: int) -> object:
    return store.results(job, verdict=Verdict.DELETED, after=size - 20, limit=100, size=10_000)


ASKED: dict[str, Ask] = {
    "claim and record": claim_and_record,
    "settle": lambda store, job, size: store.settle(job),
    "look": lambda store, job, size: store.look(every=timedelta()),
    "ring": lambda store, job, size: store.may_ring("crm"),
    "mentions": lambda store, job, size: store.mentions(digest_of_key("crm", "k5"), limit=9),
    "the last page": read_the_last_page,
    "the last deleted": read_the_last_deleted,
    "measure": lambda store, job, size: store.measure(),
    "places": lambda store, job, size: store.places(job, after=10, limit=50),
}


KINDS = [pytest.param("sqlite", marks=pytest.mark.soak), "postgresql"]


@pytest.fixture(scope="module", params=KINDS)
def jobs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, tuple[SqlStore, JobId]]]:
    """A small job and a large one by their size, each in a store that has ended one before."""
    with ExitStack() as opened:
        made = {}
        for size in (SMALL, LARGE):
            directory = tmp_path_factory.mktemp("store")
            store = SqlStore(opened.enter_context(empty_store(request.param, directory)))
            opened.callback(store.close)
            end(store, make_job(store, SMALL))
            made[size] = store, make_job(store, size)
        yield made


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store."""
    with empty_store(request.param, tmp_path) as url:
        store = SqlStore(url)
        yield store
        store.close()


def make_job(store: SqlStore, size: int) -> JobId:
    """A running job, half of whose ranges are done."""
    steps = Steps(store)
    job = steps.submitted(landed(place, f"k{place}") for place in range(size))
    steps.cut(job, size=BATCH)
    assert store.start(job)
    done = "UPDATE batches SET state = 'done', verdict = 'deleted' WHERE first < :half"
    with store.dialect.writing() as connection:
        connection.execute(text(done), {"half": size // 2})
        # As a server's own vacuum does at any moment: plans change with it.
        connection.execute(text("ANALYZE"))
    return job


def end(store: SqlStore, job: JobId) -> None:
    """Cancel a job, to its end."""
    store.cancel(job, Who())
    while store.end_ready(job, limit=20_000):
        pass
    store.settle(job)


@pytest.mark.parametrize("name", ASKED)
def test_a_large_job_costs_no_more_than_a_small_one(
    jobs: dict[int, tuple[SqlStore, JobId]], name: str
) -> None:
    costs = []
    for size, (store, job) in jobs.items():
        ask = partial(ASKED[name], store, job, size)
        ask()
        costs.append(cost_of(store, ask))

    # Indexes grow by a level; a scan would cost twenty times as much.
    assert costs[1] < 3 * costs[0] + 200, costs


def claim_and_look(store: SqlStore) -> object:
    claim = Steps(store).claim(appetite(call_items=BATCH, calls=3))
    seen = store.renew(claim.lease, lasting=timedelta(minutes=1))
    assert claim.protected == seen.protected
    return Steps(store).give_back_unsent(claim)


@pytest.mark.parametrize("size", [pytest.param(100, marks=pytest.mark.soak), BATCH])
def test_a_claim_costs_no_more_when_many_keys_are_protected(store: SqlStore, size: int) -> None:
    steps = Steps(store)
    job = steps.submitted(landed(place, f"k{place}") for place in range(1_000))
    steps.planned(job, size=1 if size == BATCH else BATCH)
    costs = []
    for count in (10, 20_000):
        names = [f"k{n}" if n < 10 else f"elsewhere{n}" for n in range(count)]
        texts = {digest_of_key("crm", name): f'"{name}"' for name in names}
        store.protect("crm", texts, Who())
        claim_and_look(store)
        costs.append(cost_of(store, lambda: claim_and_look(store)))

    assert costs[1] < 2 * costs[0] + 100, costs


def test_a_target_without_protected_keys_is_asked_once_a_claim(store: SqlStore) -> None:
    make_job(store, SMALL)
    texts = {digest_of_key("erp", f"k{n}"): f'"k{n}"' for n in range(100)}
    store.protect("erp", texts, Who())
    asked: list[str] = []

    def note(*given: Any) -> None:
        asked.append(given[2])

    event.listen(store.dialect.engine, "before_cursor_execute", note)
    claim = Steps(store).claim(appetite(call_items=BATCH, calls=3))
    event.remove(store.dialect.engine, "before_cursor_execute", note)

    assert not claim.has_protected
    assert sum("protected" in statement for statement in asked) == 1


def cost_of(store: SqlStore, ask: Callable[[], object]) -> int:
    """Rows that PostgreSQL reads, or steps of SQLite's machine in hundreds."""
    if store.dialect.locks_rows:
        return _rows_read(store, ask)
    return _steps_taken(store, ask)


def _rows_read(store: SqlStore, ask: Callable[[], object]) -> int:
    """The rows that all statements read, as their plans tell."""
    seen: list[Any] = []

    def explain(*given: Any) -> None:
        _, cursor, statement, parameters, _, is_many = given
        if statement.startswith(("SELECT", "UPDATE", "WITH")) and "FOR UPDATE" not in statement:
            one = parameters[0] if is_many else parameters
            own = cursor.connection.cursor()
            # What is a single statement has no transaction around it.
            begin, end = "SAVEPOINT before", "ROLLBACK TO before"
            if cursor.connection.autocommit:
                begin, end = "BEGIN", "ROLLBACK"
            own.execute(begin)
            own.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", one)
            seen.append(own.fetchone()[0])
            own.execute(end)

    event.listen(store.dialect.engine, "before_cursor_execute", explain)
    ask()
    event.remove(store.dialect.engine, "before_cursor_execute", explain)
    return sum(_rows_of(one[0]["Plan"]) for one in seen)


def _rows_of(plan: dict[str, Any]) -> int:
    """The rows that a plan's nodes took in, with those they filtered out."""
    own = int((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])
    return own + sum(_rows_of(inner) for inner in plan.get("Plans", []))


def _steps_taken(store: SqlStore, ask: Callable[[], object]) -> int:
    """How often SQLite's machine stepped, in hundreds."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watch(connection: sqlite3.Connection, *_: Any) -> None:
        connection.set_progress_handler(count, 100)

    event.listen(store.dialect.engine, "checkout", watch)
    ask()
    event.remove(store.dialect.engine, "checkout", watch)
    return steps
