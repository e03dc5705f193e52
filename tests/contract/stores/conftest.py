"""Every store behind one fixture: what holds for one holds for all."""

from collections.abc import Iterator

import pytest

from tests.contract.stores.makers import MAKERS
from tests.contract.stores.steps import Steps
from tests.factories import Clock
from worker.store.base import Store


@pytest.fixture
def clock() -> Clock:
    """The store's clock."""
    return Clock()


@pytest.fixture(params=sorted(MAKERS))
def store(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """An empty store."""
    store = MAKERS[request.param](clock)
    yield store
    store.close()


@pytest.fixture
def steps(store: Store) -> Steps:
    """The ways of a job, in few words."""
    return Steps(store)
