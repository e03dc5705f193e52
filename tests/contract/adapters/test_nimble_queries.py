"""Nimble: which contacts a query finds, and which queries are refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api_adapters.contract import FreePace, soon
from api_adapters.errors import BadQuery, Transient
from api_adapters.fakes.nimble import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Backend, type_of
from api_adapters.fakes.server import PracticeServer
from api_adapters.fakes.wire import Wire, ok
from api_adapters.nimble import Nimble

IDS = Backend.ids(40)
ONE = IDS[0]


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_SECRET", CLIENT_SECRET)
    monkeypatch.setenv("CRM_CONSENT", REFRESH_TOKEN)


@pytest.fixture
def server() -> Iterator[PracticeServer]:
    with PracticeServer(Backend(IDS)) as server:
        yield server


@pytest.fixture
def adapter(server: PracticeServer) -> Iterator[Nimble]:
    oauth = {
        "client_id": CLIENT_ID,
        "client_secret": {"env": "CRM_SECRET"},
        "refresh_token": {"env": "CRM_CONSENT"},
    }
    adapter = make(server.base_url, oauth=oauth)
    yield adapter
    adapter.close()


def make(base_url: str, **way_in: Any) -> Nimble:
    table = {"adapter": "nimble", "base_url": base_url}
    table |= way_in or {"token": {"env": "CRM_SECRET"}}
    return Nimble(Nimble.Settings.model_validate(table), pace=FreePace())


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"record_type": "person"},
        {"limit": 5},
        {"keyword": "a", "query": {"name": {"is": "a"}}},
        {"query": {"name": {"is": "a"}}, "record_type": "person"},
        {"keyword": "a", "record_type": "deal"},
        {"keyword": ""},
        {"keyword": " * "},
        {"keyword": 7},
        {"keyword": "\ud800a"},
        {"keyword": "a" * 7_000},
        {"keyword": "\u00e9" * 1_500},
        {"query": {}},
        {"query": {"and": [{}, {"or": []}]}},
        {"query": "name is a"},
        {"query": {"name": {"is": float("nan")}}},
        {"query": {"name": {"in": ["a" * 50] * 200}}},
        {"keyword": "a", "limit": 0},
        {"keyword": "a", "limit": True},
        {"keyword": "a", "limit": "5"},
        {"keyword": "a", "per_page": 5},
    ],
)
def test_a_query_that_cannot_be_asked_or_narrows_nothing_is_refused(query: Any) -> None:
    adapter = make("http://crm")

    with pytest.raises(BadQuery):
        adapter.check_query(query)
    with pytest.raises(BadQuery):
        adapter.find(query, until=soon())


def companies(ids: list[str]) -> set[str]:
    return {ident for ident in ids if type_of(ident) == "company"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"keyword": "contact"}, set(IDS)),
        ({"keyword": "contact", "record_type": "company"}, companies(IDS)),
        ({"query": {"record type": {"is": "company"}}, "record_type": "all"}, companies(IDS)),
        ({"query": {"not": {"name": {"is": f"Contact {ONE}"}}}}, set(IDS) - {ONE}),
    ],
)
def test_what_matches_is_found_on_all_pages(
    adapter: Nimble, monkeypatch: pytest.MonkeyPatch, query: Any, found: set[str]
) -> None:
    monkeypatch.setattr("api_adapters.nimble.IDS_A_PAGE", 3)

    assert set(adapter.find(query, until=soon())) == found


def test_a_limit_is_ours_and_is_not_sent(adapter: Nimble, server: PracticeServer) -> None:
    found = list(adapter.find({"keyword": "contact", "limit": 7}, until=soon()))

    assert found == sorted(IDS)[:7]
    assert server.practice.calls == 0


def test_a_query_that_the_vendor_refuses_is_a_bad_query(adapter: Nimble) -> None:
    with pytest.raises(BadQuery, match="cannot be read"):
        list(adapter.find({"query": {"colour": {"is": "red"}}}, until=soon()))


def test_the_numbers_of_a_page_may_be_texts() -> None:
    page = {"meta": {"page": "1", "pages": "1"}, "resources": [ONE]}
    with Wire(ok(json.dumps(page).encode())) as wire:
        adapter = make(wire.url)

        assert list(adapter.find({"keyword": "a"}, until=soon())) == [ONE]

        adapter.close()


@pytest.mark.parametrize(
    "page",
    [
        {"meta": {"page": 2, "pages": 2}, "resources": [ONE]},
        {"meta": {"page": 1, "pages": 2}, "resources": []},
        {"meta": {"page": 1, "pages": 1}, "resources": [{"id": ONE}]},
        {"meta": {}, "resources": [ONE]},
        {"resources": [ONE]},
    ],
)
def test_a_page_that_is_not_the_one_asked_for_ends_the_search(page: Any) -> None:
    with Wire(ok(json.dumps(page).encode())) as wire:
        adapter = make(wire.url)

        with pytest.raises(Transient) as failure:
            list(adapter.find({"keyword": "a"}, until=soon()))

        assert not failure.value.may_have_run
        adapter.close()
