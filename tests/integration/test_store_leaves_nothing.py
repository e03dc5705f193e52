"""What was pruned or forgotten is in no table and in no file any more."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Text, cast, select

from api_adapters.base import Evidence, Verdict
from tests.contract.stores.steps import Steps
from tests.factories import Clock, appetite, landed, new_job, refused_at_the_door
from tests.integration.stores import empty_store
from worker.admitting import admit
from worker.item import Mark, digest_of_key
from worker.job import JobId
from worker.pruner import Pruner
from worker.store.base import Claim, Who
from worker.store.sql import SqlStore
from worker.store.tables import metadata

DAY = timedelta(days=1)
#: Long enough to be found by chance nowhere.
SECRET = "zebra-4711-of-nobody"
MANY = 3_000


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[SqlStore]:
    """A store in a place of its own, since every byte there is looked at."""
    with empty_store(request.param, tmp_path) as url:
        store = SqlStore(url, clock=clock)
        yield store
        store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def everything(store: SqlStore, directory: Path) -> bytes:
    """All that any table holds, as text, and every byte of every file."""
    parts = [path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()]
    with store.dialect.reading() as connection:
        for table in metadata.sorted_tables:
            columns = [column if _is_binary(column) else cast(column, Text) for column in table.c]
            for row in connection.execute(select(*columns)):
                parts += [one if isinstance(one, bytes) else str(one).encode() for one in row]
    return b"\n".join(parts)


def _is_binary(column: object) -> bool:
    return str(getattr(column, "type", "")) in {"BLOB", "BYTEA"}


def work(store: SqlStore, secrets: list[str], *, about: int = MANY, days: int = 30) -> JobId:
    """A job with secrets amid many others, every third of which fails with a word of its own."""
    names = [f"k{number:06}" for number in range(about)]
    for place, secret in enumerate(secrets):
        names.insert((place + 1) * about // (len(secrets) + 1), secret)
    items = [landed(place, name) for place, name in enumerate(names)]
    items.append(refused_at_the_door(len(items), f"{secrets[0]} refused"))
    steps = Steps(store)
    job = steps.running(items, size=100, retain_for=days * DAY)
    mark = Mark(Verdict.DENIED, Evidence.ITEM, "locked", f"{secrets[0]} is locked", calls=1)
    good = Mark(Verdict.DELETED, Evidence.ITEM, calls=1)
    while isinstance(claim := steps.try_claim(appetite(call_items=1_000)), Claim):
        marks = [
            {i.position: good if i.position % 3 else mark for i in one.items}
            for one in claim.batches
        ]
        steps.record_marks(claim, marks)
    assert store.settle(job) is not None
    return job


def count(store: SqlStore, job: JobId) -> int:
    """How many outcomes a job tells of."""
    page = store.results(job, verdict=None, after=-1, limit=10 * MANY, size=10**9)
    return len(page.rows)


def test_a_pruned_job_leaves_nothing(store: SqlStore, clock: Clock, tmp_path: Path) -> None:
    secrets = [f"{SECRET}-{number}" for number in range(40)]
    before = work(store, ["a"], days=90)
    job = work(store, secrets)
    after = work(store, ["b"], days=90)
    digests = [digest_of_key("crm", one) for one in secrets]
    held = everything(store, tmp_path)
    assert SECRET.encode() in held
    assert digests[7] in held
    clock.advance(30 * DAY)

    done = Pruner(store).prune(Who())

    assert done.jobs == (job,)
    left = everything(store, tmp_path)
    assert SECRET.encode() not in left
    assert [digest for digest in digests if digest in left] == []
    assert (count(store, before), count(store, after)) == (MANY + 2, MANY + 2)


def test_a_forgotten_item_leaves_nothing(store: SqlStore, tmp_path: Path) -> None:
    secrets = [f"{SECRET}-{number}" for number in range(40)]
    jobs = [work(store, secrets, about=1_000) for _ in range(2)]

    for one in secrets:
        store.forget("crm", digest_of_key("crm", one), Who())

    left = everything(store, tmp_path)
    for one in secrets:
        assert f'"{one}"'.encode() not in left
        assert digest_of_key("crm", one) not in left
    assert [count(store, job) for job in jobs] == [1_001, 1_001]


def test_a_forgotten_key_at_the_end_of_a_chunk_leaves_nothing(
    store: SqlStore, tmp_path: Path
) -> None:
    job = store.open(new_job(chunk_items=1)).id
    chunk = admit([SECRET], target="crm", key_of=str, keys_of=lambda items: list(map(str, items)))
    assert chunk.ends == (SECRET, SECRET)
    store.append(job, chunk)
    store.seal(job, 1)
    steps = Steps(store)
    steps.planned(job)
    steps.record(steps.claim())
    assert store.settle(job) is not None

    store.forget("crm", digest_of_key("crm", SECRET), Who())

    assert SECRET.encode() not in everything(store, tmp_path)
