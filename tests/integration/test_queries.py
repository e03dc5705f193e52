"""Jobs by query against real workers: found, frozen, and only then deleted."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api_adapters.fakes import gptbots, nimble, sas_catalog
from tests.integration.service import Service, Target
from worker.client import DeletionClient, Refused

MOST = timedelta(seconds=60)
OPEN = {"allow_query": True, "requests_per_second": 1000.0}
VISITS = 5_000


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in which every other row is old."""
    path = tmp_path_factory.mktemp("visits") / "visits.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE visits (id INTEGER PRIMARY KEY, kind TEXT, seen_at TIMESTAMP)"
        )
        database.executemany(
            "INSERT INTO visits VALUES (?, ?, datetime('now', ?))",
            [
                (n, "bot" if n % 5 else "human", f"-{10 if n % 2 else 100} days")
                for n in range(VISITS)
            ],
        )
    return path


@pytest.fixture(scope="module")
def service(visits: Path) -> Iterator[Service]:
    table = f"""
[targets.visits]
adapter = "sql_table"
url = "sqlite:///{visits}"
table = "visits"
key = "id"
query_columns = ["kind", "seen_at"]
allow_query = true
"""
    targets = {
        "crm": Target("nimble", items=1_300, misbehave="busy/7,error/9", options=OPEN),
        "catalog": Target("sas_catalog", items=700, misbehave="expired@3,error/9", options=OPEN),
        "records": Target("gptbots", items=700, options=OPEN),
        "closed": Target("nimble", items=3),
    }
    with Service(targets=targets, toml_extra=table) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[DeletionClient]:
    with service.client() as client:
        yield client


def everything(kind: Any, service: Service, target: str) -> set[str]:
    """What a backend had at first."""
    practice = service.practices[target]
    return {*practice.remaining, *practice.deleted}


def test_contacts_are_found_by_keyword_and_deleted(
    service: Service, client: DeletionClient
) -> None:
    wanted = {
        ident
        for ident in everything(nimble, service, "crm")
        if "contact 0" in nimble.name_of(ident).lower()
    }

    job = client.submit("crm", query={"keyword": "Contact 0"})
    status = client.wait(job, timeout=MOST)

    assert (status.state, status.items) == ("completed", len(wanted))
    assert set(service.practices["crm"].deleted) == wanted
    assert {one.item for one in client.results(job)} == wanted


def test_objects_are_found_by_filter_page_after_page(
    service: Service, client: DeletionClient
) -> None:
    wanted = {
        uri
        for uri in everything(sas_catalog, service, "catalog")
        if uri.startswith("/catalog/instances/") and sas_catalog.type_of(uri) == "casTable"
    }
    assert len(wanted) > 100

    job = client.submit("catalog", query={"filter": "eq(type,'casTable')"})
    status = client.wait(job, timeout=MOST)

    assert (status.state, status.items) == ("completed", len(wanted))
    assert set(service.practices["catalog"].deleted) == wanted


def test_records_are_found_by_page_and_deleted(service: Service, client: DeletionClient) -> None:
    titles = {
        ident: gptbots.value_of(ident)["title"] for ident in everything(gptbots, service, "records")
    }
    wanted = {ident for ident, title in titles.items() if title == min(titles.values())}

    job = client.submit("records", query={"filter": {"title": min(titles.values())}})
    status = client.wait(job, timeout=MOST)

    assert status.items == len(wanted) > 0
    assert set(service.practices["records"].deleted) == wanted


def test_rows_are_found_by_age_and_condition(
    service: Service, client: DeletionClient, visits: Path
) -> None:
    query = {
        "where": [{"column": "kind", "op": "=", "value": "bot"}],
        "older_than": {"column": "seen_at", "age": "30d"},
    }

    dry = client.wait(client.submit("visits", query=query, dry_run=True), timeout=MOST)
    status = client.wait(client.submit("visits", query=query), timeout=MOST)

    with sqlite3.connect(visits) as database:
        (left,) = database.execute("SELECT count(*) FROM visits").fetchone()
    assert dry.items == status.items == VISITS - left == 2_000
    assert status.tally["deleted"] == 2_000


@pytest.mark.parametrize(
    ("target", "query", "code"),
    [
        ("closed", {"keyword": "x"}, "query_not_allowed"),
        ("crm", {}, "query_refused"),
        ("crm", {"keyword": " "}, "query_refused"),
        ("records", {}, "query_refused"),
        ("catalog", {"filter": ""}, "query_refused"),
        ("visits", {}, "query_refused"),
        ("visits", {"where": [{"column": "id", "op": ">", "value": 0}]}, "query_refused"),
        ("visits", {"where": [{"column": "kind", "op": "OR 1=1", "value": 0}]}, "query_refused"),
        ("nobody", {"keyword": "x"}, "unknown_target"),
    ],
)
def test_a_query_that_may_not_be_asked_is_refused(
    client: DeletionClient, target: str, query: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        client.submit(target, query=query)

    assert refused.value.code == code


def test_a_query_is_shown_to_nobody(service: Service, client: DeletionClient) -> None:
    hint = "zebra-hint-for-nobody"
    job = client.submit("crm", query={"keyword": hint})

    assert client.wait(job, timeout=MOST).items == 0
    assert all(hint not in text for text in service.logs().values())
    with service.redis() as broker:
        values = [broker.get(key) for key in broker.scan_iter("*") if broker.type(key) == b"string"]
    assert hint not in json.dumps([str(value) for value in values])
