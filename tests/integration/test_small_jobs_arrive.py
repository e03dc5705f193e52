"""A small job lands the same in one statement as in one a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select

from tests.factories import chunk_of, landed, new_job, refused_at_the_door
from tests.integration.stores import empty_store
from worker.errors import RefusedRequest
from worker.job import JobId
from worker.store import entering
from worker.store.base import Cut
from worker.store.entering import Submission
from worker.store.postgresql import PostgresqlDialect
from worker.store.sql import SqlStore
from worker.store.tables import events, jobs, metadata

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
#: What JSON, SQL or a record of JSON could take for something else.
ODD = ["\0", "\ud800", "☃", "it's", '"', "\\", "\n", "null", "", "%s :given", 7, -1, 10**30]


def submission(number: int, *items: Any, cuts: int = 1, **options: Any) -> Submission:
    """A job that is planned as it comes."""
    job = new_job(id=JobId(f"00000000-0000-4000-8000-{number:012}"), **options)
    size = -(-len(items) // cuts) or 1
    ranges = [
        Cut(first, min(first + size, len(items)) - 1, min(size, len(items) - first))
        for first in range(0, len(items), size)
    ]
    return Submission(job, chunk_of(items), ranges)


SUBMISSIONS = [
    submission(2, "a"),
    submission(1, *ODD, cuts=4, requested_by="O'Neill \\ ☃ {}", notify="hook"),
    submission(4, *({"id": one, "of": [one]} for one in range(99)), cuts=2),
    submission(5, "kept", retain_for=timedelta(days=30, milliseconds=1)),
    submission(8, "not kept", retain_for=timedelta()),
    # Of one id the first.
    submission(3, "b"),
    submission(3, "b"),
    submission(3, "another"),
]


#: One of them goes another way, and so all do.
MIXED = [
    submission(6, *range(250), cuts=3),
    submission(7, landed(0, "x"), refused_at_the_door(1, "y")),
    submission(9, "c"),
]


def land(url: str) -> tuple[list[Any], dict[str, Any]]:
    """What is answered to the submissions, and all that is in the store then."""
    store = SqlStore(url, clock=lambda: NOW)
    try:
        told = store._submit_many(SUBMISSIONS) + store._submit_many(MIXED)
        with store._read() as tx:
            ids = {row.seq: row.id for row in tx.execute(select(jobs))}
            held = {
                table.name: [_shown(row, ids) for row in tx.execute(_in_order(table))]
                for table in metadata.sorted_tables
            }
    finally:
        store.close()
    return told, held


def _in_order(table: Table) -> Any:
    """Events as they came, job by job; the others by their key."""
    order = [events.c.job, events.c.id] if table is events else list(table.primary_key)
    return select(table).order_by(*order)


def _shown(row: Any, ids: dict[int, str]) -> dict[str, Any]:
    """A row with its job's id, for the numbers of jobs and events depend on the way."""
    values = {name: value for name, value in row._mapping.items() if name not in {"seq", "id"}}
    return values | {"job": ids.get(values.get("job"), values.get("job"))}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[Any], dict[str, Any]]]:
    """In one statement where it can be, and in one a table."""
    found = []
    for at_once in (True, False):
        with (
            pytest.MonkeyPatch.context() as patch,
            empty_store("postgresql", tmp_path_factory.mktemp("store")) as url,
        ):
            patch.setattr(PostgresqlDialect, "has_writing_ctes", at_once)
            found.append(land(url))
    return found


def test_the_same_is_answered(both: list[tuple[list[Any], dict[str, Any]]]) -> None:
    at_once, one_by_one = (
        [str(one) if isinstance(one, RefusedRequest) else replace(one, seq=0) for one in told]
        for told, _ in both
    )

    assert at_once == one_by_one
    assert [type(one).__name__ for one in both[0][0]] == [
        *["Job"] * 7,
        "RefusedRequest",
        *["Job"] * 3,
    ]


@pytest.mark.parametrize("table", [one.name for one in metadata.sorted_tables])
def test_the_same_is_kept(both: list[tuple[list[Any], dict[str, Any]]], table: str) -> None:
    (_, at_once), (_, one_by_one) = both

    assert at_once[table] == one_by_one[table]


def test_all_of_it_is_kept(both: list[tuple[list[Any], dict[str, Any]]]) -> None:
    (_, held), _ = both

    assert len(held["jobs"]) == 9
    assert sum(row["items"] for row in held["pages"]) == sum(row["items"] for row in held["jobs"])
    assert len(held["batches"]) == 1 + 4 + 2 + 1 + 1 + 1 + 3 + 1 + 1
    assert len(held["events"]) == 2 * 9


def test_nothing_small_is_inserted_table_by_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with empty_store("postgresql", tmp_path) as url:
        store = SqlStore(url)
        monkeypatch.setattr(entering, "insert_job", None)
        try:
            taken = [store.submit(one.job, one.chunk, cuts=one.cuts) for one in SUBMISSIONS[:4]]
        finally:
            store.close()

    assert [one.items for one in taken] == [1, len(ODD), 99, 1]
