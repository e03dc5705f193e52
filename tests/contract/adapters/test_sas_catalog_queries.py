"""SAS Catalog: which objects a filter finds, and which filters are refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api_adapters.answer import Answer
from api_adapters.contract import FreePace, soon
from api_adapters.errors import BadQuery, Transient
from api_adapters.fakes.sas_catalog import CLIENT_ID, CLIENT_SECRET, Backend, type_of
from api_adapters.fakes.server import PracticeServer
from api_adapters.fakes.wire import Wire, ok
from api_adapters.sas_catalog import SasCatalog
from api_adapters.sas_catalog_answers import read_page

IDS = Backend.ids(40)
ONE, TWO = IDS[:2]
UUID = ONE.rpartition("/")[2]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALOG_SECRET", CLIENT_SECRET)


@pytest.fixture
def server() -> Iterator[PracticeServer]:
    with PracticeServer(Backend(IDS)) as server:
        yield server


@pytest.fixture
def adapter(server: PracticeServer) -> Iterator[SasCatalog]:
    oauth = {"client_id": CLIENT_ID, "client_secret": {"env": "CATALOG_SECRET"}}
    adapter = make(server.base_url, oauth=oauth)
    yield adapter
    adapter.close()


def make(base_url: str, **way_in: Any) -> SasCatalog:
    table = {"adapter": "sas_catalog", "base_url": base_url}
    table |= way_in or {"token": {"env": "CATALOG_SECRET"}}
    return SasCatalog(SasCatalog.Settings.model_validate(table), pace=FreePace())


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, json.dumps(body).encode(), "http://viya list objects")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"limit": 5},
        {"collection": "bots"},
        {"filter": ""},
        {"filter": "type"},
        {"filter": "and()"},
        {"filter": "or(and(),and())"},
        {"filter": 7},
        {"filter": "eq(type,'x')\r\nX: y"},
        {"filter": "eq(type,'\ud800')"},
        {"filter": "eq(type,'" + "x" * 9_000 + "')"},
        {"filter": "eq(type,'" + "\u00e9" * 1_500 + "')"},
        {"filter": "eq(type,'x')", "collection": "types"},
        {"filter": "eq(type,'x')", "collection": ["bots"]},
        {"filter": "eq(type,'x')", "limit": 0},
        {"filter": "eq(type,'x')", "limit": True},
        {"filter": "eq(type,'x')", "start": 5},
    ],
)
def test_a_query_that_cannot_be_asked_or_narrows_nothing_is_refused(query: Any) -> None:
    adapter = make("http://viya")

    with pytest.raises(BadQuery):
        adapter.check_query(query)
    with pytest.raises(BadQuery):
        adapter.find(query, until=soon())


def matching(kind: str, collection: str = "instances") -> set[str]:
    return {uri for uri in IDS if f"/{collection}/" in uri and type_of(uri) == kind}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"filter": "eq(type,'sasReport')"}, matching("sasReport")),
        ({"filter": "eq(type,'sasReport')", "collection": "bots"}, matching("sasReport", "bots")),
        ({"filter": "and(eq(type,'casTable'),contains(name,'Object'))"}, matching("casTable")),
        ({"filter": f"eq(name,'Object {UUID}')"}, {ONE}),
        ({"filter": "eq(name,'a''&b=c')"}, set()),
    ],
)
def test_what_matches_is_found_on_all_pages(
    adapter: SasCatalog, monkeypatch: pytest.MonkeyPatch, query: Any, found: set[str]
) -> None:
    monkeypatch.setattr("api_adapters.sas_catalog.ITEMS_A_PAGE", 3)

    listed = list(adapter.find(query, until=soon()))

    assert set(listed) == found
    assert len(listed) == len(found)


def test_a_limit_is_ours(adapter: SasCatalog) -> None:
    query = {"filter": "contains(name,'Object')", "limit": 4}

    assert len(list(adapter.find(query, until=soon()))) == 4


def test_a_filter_that_the_vendor_refuses_is_a_bad_query(adapter: SasCatalog) -> None:
    with pytest.raises(BadQuery, match="cannot be read"):
        list(adapter.find({"filter": "like(colour,'red')"}, until=soon()))


def page(*uris: str, following: str | None = None) -> dict[str, Any]:
    items = [{"id": "x", "links": [{"rel": "self", "uri": uri}]} for uri in uris]
    links = [{"rel": "next", "href": following}] if following else []
    return {"count": 9, "items": items, "links": links}


@pytest.mark.parametrize(
    "body",
    [
        page(ONE, following="http://elsewhere.example/catalog/instances?start=1"),
        page(ONE, following="//elsewhere.example/catalog/instances?start=1"),
        page(ONE, following="/catalog/instances?start=0"),
        page(following="/catalog/instances?start=1"),
        {"items": [{"id": UUID}], "links": []},
        {"items": [{"id": UUID, "links": [{"rel": "up", "uri": ONE}]}]},
        {"items": {}},
        {},
    ],
)
def test_a_page_that_leads_elsewhere_or_nowhere_ends_the_search(body: Any) -> None:
    with Wire(ok(json.dumps(body).encode()), stays_open=True) as wire:
        adapter = make(wire.url)

        with pytest.raises(Transient):
            list(adapter.find({"filter": "eq(type,'x')"}, until=soon()))

        assert len(wire.requests) <= 2
        adapter.close()


def test_the_next_page_may_be_a_path_or_an_address() -> None:
    assert read_page(answer(200, page(ONE, following="/x"))) == ([ONE], "/x")
    assert read_page(answer(200, page(ONE, TWO))) == ([ONE, TWO], None)
