"""Whatever a message can hold, every store gives it back as it was given."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils.json import dumps

from tests.contract.stores.makers import MAKERS
from tests.contract.stores.steps import Steps
from tests.factories import Clock, new_job
from worker import requests
from worker.admitting import admit, without_duplicates
from worker.quiet import UNREADABLE, Shown, decode
from worker.store.base import Store

#: Every letter, and halves of pairs: they are no text, but they are JSON.
TEXTS = st.text(st.characters())
NUMBERS = st.integers() | st.integers(2**53, 2**70) | st.just(-(10**400))
FRACTIONS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    TEXTS | NUMBERS | FRACTIONS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
JOBS = st.lists(TEXTS | NUMBERS | st.just(10**4_000) | VALUES, max_size=30)


@pytest.fixture(scope="module", params=sorted(MAKERS))
def kept_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """One store for all examples: each is a job of its own."""
    store = MAKERS[request.param](Clock())
    yield store
    store.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(items=JOBS)
def test_every_value_of_a_message_comes_back_as_it_was_given(
    kept_store: Store, items: list[Any]
) -> None:
    given_as = json.dumps(items)

    rows = came_back(kept_store, given_as)

    # In JSON, where two halves are a pair, and 1, 1.0 and true are three.
    assert json.dumps([row["item"] for row in rows]) == given_as
    assert [row["position"] for row in rows] == list(range(len(items)))


def came_back(store: Store, items: str) -> list[Any]:
    """The rows of the results of a message's items, as its sender reads them."""
    body = decode(f'[[], {{"target": "crm", "items": {items}}}, {{}}]')
    assert UNREADABLE not in body[1]
    job = new_job()
    request = requests.parse(requests.Submit, {**body[1], "job": job.id})
    chunk = admit(request.items or (), target="crm", key_of=one_each())
    store.submit(job, without_duplicates(chunk))
    steps = Steps(store)
    steps.work_off(steps.planned(job.id))
    page = store.results(job.id, verdict=None, after=-1, limit=1_000, size=2**20)
    answer = dumps(Shown({"rows": [row.as_json() for row in page.rows]}, ""))
    rows: list[Any] = json.loads(answer)["rows"]
    return rows


def one_each() -> Any:
    """An adapter's key that no two items share."""
    numbers = iter(range(1_000))
    return lambda item: str(next(numbers))


def test_a_seal_costs_what_has_landed_and_not_what_it_claims(store: Store) -> None:
    job = store.open(new_job(chunk_items=10))

    tracemalloc.start()
    sealed = store.seal(job.id, 200_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(sealed.missing) == 100
    assert peak < 2_000_000
