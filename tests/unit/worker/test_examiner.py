"""The examiner tells of store, migrations, broker, clock and progress, whatever is away."""

import pytest

from tests.factories import Clock
from worker.errors import StoreUnavailable, WrongMigration
from worker.examiner import Examiner
from worker.store.memory import MemoryStore

NAMES = ["store", "migrations", "broker", "clock", "progress"]


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(Clock())
    store.note_tick()
    return store


def examiner(
    store: MemoryStore, *, error: Exception | None = None, broker: str | None = None
) -> Examiner:
    def check() -> None:
        if error is not None:
            raise error

    return Examiner(store, check_migration=check, ping_broker=lambda: broker)


def test_all_is_well(store: MemoryStore) -> None:
    health = examiner(store).examine()

    assert [check.name for check in health.checks] == NAMES
    assert health.is_healthy
    assert not health.is_away


def test_a_store_that_is_away_leaves_the_broker_to_be_told(store: MemoryStore) -> None:
    health = examiner(store, error=StoreUnavailable("it is\naway")).examine()

    assert [check.name for check in health.checks] == NAMES
    assert [check.name for check in health.checks if check.is_ok] == ["broker"]
    assert health.checks[0].message == "it is away"
    assert health.is_away


def test_a_store_at_another_migration_answers(store: MemoryStore) -> None:
    health = examiner(store, error=WrongMigration("run `deletions migrate`")).examine()

    assert [check.name for check in health.checks if check.is_ok] == ["store", "broker"]
    assert not health.is_away


def test_a_broker_that_is_away_is_told(store: MemoryStore) -> None:
    health = examiner(store, broker="the broker does not answer: ConnectionError").examine()

    assert [check.name for check in health.checks if not check.is_ok] == ["broker"]
    assert health.is_away
