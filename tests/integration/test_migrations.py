"""A store is made once, moved on by hand, and never touched by an older program."""

import multiprocessing
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps
from tests.factories import all_marked, appetite, chunk_of, final
from tests.postgres import database
from worker.errors import StoreUnavailable, WrongMigration
from worker.item import Mark, digest_of_key
from worker.job import JobId
from worker.store import migrations
from worker.store.migrations import migrate, prepare, steps
from worker.store.sql import SqlStore
from worker.store.tables import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with nothing in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite3'}"
        return
    with database() as url:
        yield url


def test_the_newest_migration_is_the_one_that_the_program_needs() -> None:
    with resources.as_file(resources.files(migrations)) as folder:
        assert ScriptDirectory(str(folder)).get_heads() == [migrations.HEAD]


def run(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements; the rows of the last one."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            results = [connection.execute(text(statement)) for statement in statements]
            return [tuple(row) for row in results[-1]] if results[-1].returns_rows else []
    finally:
        engine.dispose()


def make_older(url: str, *, at: str = "0001") -> None:
    """A store as an earlier migration left it."""
    with migrations._exclusive(url) as connection:
        command.upgrade(steps._config(connection), at)


def test_the_migrations_make_what_the_program_uses(url: str) -> None:
    prepare(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()

    assert differences == []


def test_a_store_is_prepared_once(url: str) -> None:
    prepare(url)
    prepare(url)

    assert migrate(url) == steps.head()


def test_an_older_store_is_refused_until_it_is_moved_on(url: str) -> None:
    make_older(url)

    with pytest.raises(WrongMigration, match="deletions migrate"):
        prepare(url)

    assert migrate(url) == "0001"
    prepare(url)


def test_what_was_decided_before_there_were_totals_is_added_up(url: str) -> None:
    make_older(url, at="0005")
    job = (
        "INSERT INTO jobs (id, target, fingerprint, state, dry_run, approved, options,"
        " chunk_items, items, duplicates, is_cut, round, owed, finds, needs_approval,"
        " created_at, fed_at)"
        " VALUES ('j1', 'crm', 'f', 'running', false, false, 'o', 10, 30, 0, true, 0, false, 0,"
        " false, 1, 1)"
    )
    strays = ", ".join(f"strays_{verdict.value}" for verdict in Verdict)
    batch = (
        "INSERT INTO batches (job, first, last, items, state, not_before, failures, told_to_wait,"
        f" is_half, evidence, doubt, calls, verdict, {strays}, strays_open)"
        " SELECT seq, {first}, {first} + 9, 10, '{state}', 0, 0, 0, false, 'none', false, 0,"
        " {verdict}, 1, 0, 0, 2, 0, 0, 0, 0, 0 FROM jobs"
    )
    run(
        url,
        job,
        batch.format(first=0, state="done", verdict="'absent'"),
        batch.format(first=10, state="ready", verdict="NULL"),
    )

    migrate(url)

    store = SqlStore(url)
    told = store.measure().backlogs["crm"]
    store.close()
    assert told.ready == 1
    assert {v.value: n for v, n in told.totals.items.items() if n} == {
        "deleted": 2,
        "absent": 7,
        "denied": 4,
    }
    assert told.oldest is not None


def test_items_of_a_row_each_become_pages(url: str) -> None:
    make_older(url, at="0007")
    job = (
        "INSERT INTO jobs (id, target, fingerprint, state, dry_run, approved, options,"
        " chunk_items, items, duplicates, is_cut, round, owed, finds, needs_approval,"
        " created_at, fed_at)"
        " VALUES ('j1', 'crm', 'f', 'running', false, false, 'o', 10, 5, 1, true, 0, false, 0,"
        " false, 1, 1)"
    )
    items = {0: '"a"', 2: '{"b":1.50}', 999: "7", 1_000: '"\\u00e9"', 30_000: '"last"'}
    keys = {at: digest_of_key("crm", text) for at, text in items.items() if at != 2}
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(job))
        connection.execute(
            text(
                "INSERT INTO items (job, position, item, key)"
                " SELECT seq, :at, :item, :key FROM jobs"
            ),
            [{"at": at, "item": item, "key": keys.get(at)} for at, item in items.items()],
        )
    engine.dispose()

    migrate(url)

    store = SqlStore(url)
    assert store.content(JobId("j1"), after=-1, limit=9) == [
        (at, item, keys.get(at)) for at, item in items.items()
    ]
    for key in keys.values():
        assert [one.job for one in store.mentions(key, limit=9)] == ["j1"]
    store.close()
    shown = run(url, "SELECT position, item FROM outcomes ORDER BY position")
    assert shown == list(items.items())


def test_a_job_that_is_open_goes_on_after_its_items_became_pages(url: str) -> None:
    make_older(url, at="0007")
    job = (
        "INSERT INTO jobs (id, target, fingerprint, state, dry_run, approved, options,"
        " chunk_items, items, duplicates, is_cut, round, owed, finds, needs_approval,"
        " created_at, fed_at)"
        " VALUES ('j1', 'crm', 'f', 'open', false, false, 'o', 10, 20, 0, false, 0, false, 0,"
        " false, 1, 1)"
    )
    landed_before = {0: [f"a{n}" for n in range(9)] + ["a0"], 2: [f"c{n}" for n in range(10)]}
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(job))
        for number, names in landed_before.items():
            connection.execute(
                text("INSERT INTO chunks SELECT seq, :number, 10, 50, :digest FROM jobs"),
                {"number": number, "digest": f"d{number}"},
            )
            connection.execute(
                text(
                    "INSERT INTO items (job, position, item, key)"
                    " SELECT seq, :at, :item, :key FROM jobs"
                ),
                [
                    {"at": at, "item": f'"{name}"', "key": digest_of_key("crm", name)}
                    for at, name in enumerate(names, number * 10)
                ],
            )
    engine.dispose()
    migrate(url)
    store = SqlStore(url)
    ways = Steps(store)

    for number, names in {1: [f"b{n}" for n in range(9)] + ["c3"], 3: ["d", "d", "a1"]}.items():
        store.append(JobId("j1"), chunk_of(names, number=number, start=number * 10))
    store.seal(JobId("j1"), 4)
    ways.planned(JobId("j1"))

    kept = [text for _, text, _ in store.content(JobId("j1"), after=-1, limit=99)]
    wanted = [f"a{n}" for n in range(9)] + [f"b{n}" for n in range(9)] + ["c3"]
    wanted += [f"c{n}" for n in range(10) if n != 3] + ["d"]
    assert kept == [f'"{name}"' for name in wanted]
    assert store.job(JobId("j1")).items == len(wanted)
    store.close()


@pytest.mark.parametrize("way", [prepare, migrate])
def test_a_newer_store_is_left_alone(url: str, way: object) -> None:
    prepare(url)
    run(url, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(WrongMigration, match="newer program"):
        way(url)  # type: ignore[operator]

    assert run(url, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_somebody_elses_database_is_left_alone(url: str) -> None:
    run(url, "CREATE TABLE jobs (id INTEGER)")

    with pytest.raises(WrongMigration, match="expected an empty database"):
        prepare(url)


def test_two_who_come_at_once_make_one_store(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        pool.map(prepare, [url] * 4, chunksize=1)

    assert migrate(url) == steps.head()


def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        prepare("postgresql+psycopg://nobody@127.0.0.1:1/store")
    (tmp_path / "no").write_text("a database")
    with pytest.raises(StoreUnavailable):
        prepare(f"sqlite:///{tmp_path / 'no'}")


def test_the_view_shows_one_outcome_per_item(url: str) -> None:
    prepare(url)
    store = SqlStore(url)
    ways = Steps(store)
    job = ways.running(["a", "b", "a", "c", "d", "e"], size=3)
    claim = ways.claim(appetite(call_items=3))
    marks = all_marked(claim.batches[0], final())
    marks[1] = Mark(Verdict.DENIED, code="locked", message="it is", calls=1)
    ways.record_marks(claim, [marks])

    rows = run(
        url,
        "SELECT position, item, verdict, code, attempts, decided_at IS NULL, job"
        " FROM outcomes ORDER BY position",
    )

    store.close()
    assert [row[:6] for row in rows] == [
        (0, '"a"', "deleted", None, 1, False),
        (1, '"b"', "denied", "locked", 1, False),
        (3, '"c"', "deleted", None, 1, False),
        (4, '"d"', None, None, 0, True),
        (5, '"e"', None, None, 0, True),
    ]
    assert {row[6] for row in rows} == {job}
