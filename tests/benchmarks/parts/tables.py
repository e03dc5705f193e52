"""Rows of a table by their key, beside the one statement that takes all of them."""

import time

from sqlalchemy import make_url

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.children import ChildFailed
from tests.benchmarks.contest import WARM_UP, patience
from tests.benchmarks.ours import Ours
from tests.benchmarks.peers import single_delete
from tests.benchmarks.stage import Stage

ROWS, SIZE = 1_000_000, 1_000
TARGET = "events"

_MAKE = (
    "DROP TABLE IF EXISTS events",
    "CREATE TABLE events (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, note text)",
    """
    INSERT INTO events SELECT number, now() - interval '1 year', 'event ' || number
    FROM generate_series(0, {last}) AS number
    """,
    "VACUUM ANALYZE events",
    "CHECKPOINT",
)


def tables(bench: Bench) -> None:
    """The same table for both, made anew for each."""
    rows = bench.items(ROWS, size=SIZE)
    for _ in bench.rounds("tables"):
        with bench.store() as store, bench.store() as events:
            _make(bench, events, rows + WARM_UP)
            seconds = _delete_by_key(store, events, rows, workers=bench.workers)
            bench.note("tables.ours.seconds", seconds)
            _make(bench, events, rows)
            floor = _delete_at_once(events, rows)
            bench.note("tables.single_delete.seconds", floor)
        say(f"  {seconds:.2f} s beside {floor:.2f}")


def _delete_by_key(store: str, events: str, rows: int, *, workers: int) -> float:
    """Ours, from the first byte of the submission until the job has ended."""
    target = {
        "adapter": "sql_table",
        "url": events,
        "table": "events",
        "key": "id",
        "max_items_per_call": SIZE,
    }
    with (
        Stage() as stage,
        Ours(stage, targets={TARGET: target}, store_url=store, workers=workers) as ours,
    ):
        ours.warm_up(TARGET, range(rows, rows + WARM_UP))
        sent = ours.submit(TARGET, "--kind", "numbers", items=rows, seconds=patience(rows))
        status = ours.settled(sent.job, seconds=patience(rows))
    if status.tally["deleted"] != rows or status.finished_at is None:
        raise ChildFailed(f"expected {rows} rows deleted, found {dict(status.tally)}")
    return status.finished_at.timestamp() - sent.began_at


def _delete_at_once(events: str, rows: int) -> float:
    """The floor."""
    conninfo = make_url(events).set(drivername="postgresql").render_as_string()
    began = time.monotonic()
    found = single_delete.purge(conninfo)
    seconds = time.monotonic() - began
    if found != rows:
        raise ChildFailed(f"expected {rows} rows, found {found}")
    return seconds


def _make(bench: Bench, events: str, rows: int) -> None:
    name = make_url(events).database or ""
    statements = (one.format(last=rows - 1) for one in _MAKE)
    bench.postgresql.execute(*statements, database=name)
