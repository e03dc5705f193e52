"""GPTBots: what a query finds, and which queries and pages are refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api_adapters.contract import FreePace, soon
from api_adapters.errors import BadQuery, CallFailed, Hopeless, Transient
from api_adapters.fakes.gptbots import TABLE, Backend, Shape
from api_adapters.fakes.server import PracticeServer
from api_adapters.fakes.wire import Wire, ok
from api_adapters.gptbots import Gptbots


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTBOTS_KEY", "practice-key-0-1")


@pytest.fixture
def practice() -> Backend:
    return Backend()


@pytest.fixture
def server(practice: Backend) -> Iterator[PracticeServer]:
    with PracticeServer(practice) as server:
        yield server


def make(base_url: str) -> Gptbots:
    table = {"adapter": "gptbots", "token": {"env": "GPTBOTS_KEY"}, "table_id": TABLE}
    return Gptbots(
        Gptbots.Settings.model_validate({**table, "base_url": base_url}), pace=FreePace()
    )


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({"keyword": "SKU"}, 250),
        ({"keyword": "nobody"}, 0),
        ({"filter": {"sku": "SKU-" + Backend.ids(250)[7]}}, 1),
        ({"filter": {"title": "Practice 82"}, "keyword": "SKU"}, None),
    ],
)
def test_a_query_finds_every_record_once(
    server: PracticeServer, practice: Backend, shape: Shape, query: dict[str, Any], number: int
) -> None:
    practice.told({"add": Backend.ids(250)})
    practice.shape = shape
    adapter = make(server.base_url)

    found = list(adapter.find(query, until=soon()))

    assert len(set(found)) == len(found)
    assert set(found) <= practice.remaining
    assert number in {None, len(found)}
    assert practice.requests == max(1, -(-len(found) // 100))
    adapter.close()


@pytest.mark.parametrize(
    "query",
    [
        {},
        [],
        {"limit": 5},
        {"filter": {}},
        {"filter": None},
        {"filter": [["sku", "A-1"]]},
        {"filter": {"sku": ""}},
        {"filter": {"sku": None}},
        {"filter": {"sku": 1.5}},
        {"filter": {"sku": {"$ne": ""}}},
        {"filter": {"sku": "A-1"}, "table_id": "other"},
        {"keyword": ""},
        {"keyword": " "},
        {"keyword": "%"},
        {"keyword": 7},
        {"filter": {"sku": "A-1"}, "keyword": ""},
    ],
)
def test_a_query_that_narrows_nothing_is_refused(query: Any) -> None:
    adapter = make("http://gptbots")

    with pytest.raises(BadQuery):
        adapter.check_query(query)
    with pytest.raises(BadQuery):
        adapter.find(query, until=soon())


PAGE = {
    "table_info": {"fields": [{"name": "sku", "type": "text", "unique": True}]},
    "records": [{"id": "541278541278541278", "value": {"sku": "A-1"}}],
    "total_count": 1,
}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"records": [{"id": "5", "value": {"sku": "A-2"}}]}, Hopeless),
        ({"total_count": 150}, Transient),
        ({"total_count": 250, "records": [{"id": str(n)} for n in range(100)]}, Transient),
    ],
)
def test_a_find_that_heeds_no_filter_or_turns_no_page_is_broken_off(
    changes: dict[str, Any], kind: type[CallFailed]
) -> None:
    with Wire(ok(json.dumps({**PAGE, **changes}).encode())) as wire:
        adapter = make(wire.url)

        with pytest.raises(kind) as failure:
            list(adapter.find({"filter": {"sku": "A-1"}}, until=soon()))

        assert not failure.value.may_have_run
        adapter.close()
