"""Items that try to change an address, a body or a log line, through every door to every vendor.

Each is rejected, and comes back as it was given, or the backend sees exactly
it; what was not asked for stays.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from api_adapters.fakes.base import Asked, Practice, Said
from api_adapters.fakes.server import PracticeServer, open_practice
from tests.integration.hostile import TEXTS, mixed, twins, values
from tests.integration.service import Service
from tests.integration.test_foreign_sender import answer_to, events_of, everything_in
from worker.client import Outcome, Refused

#: Things that are there, by vendor: some are asked for, the others are not.
ASKED, KEPT = 12, 3
#: The most talkative: nothing of it may hold an item.
LOUD = ("--without-mingle", "--without-gossip", "--loglevel=DEBUG")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Vendor:
    """What one vendor takes, told by other means than its adapter's."""

    #: How the ledger knows an item that was carried; None for one that it never sees.
    known_as: Callable[[Any], str | None]
    #: Items made of a hostile text.
    shapes: Callable[[str], list[Any]]
    #: An item that names what the ledger calls so.
    as_item: Callable[[str], Any]
    #: Every request that may be sent, as "METHOD path?names of its parameters".
    routes: Sequence[str]
    #: The names that the bodies of its requests may hold, however deep.
    names: frozenset[str] = frozenset()
    #: Things that are there and are not asked for, beside usual ones.
    kept: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def uri_of(item: str) -> str:
    """The resource of a catalog that an item names."""
    uri = item if item.startswith("/") else f"/catalog/instances/{item}"
    return uri.lower() if UUID.fullmatch(uri.rpartition("/")[2]) else uri


def record_of(item: Any) -> str | None:
    """The record that an item names; a filter is looked up, and finds what has its SKU."""
    match item:
        case {"record_id": str(ident)} | str(ident):
            return ident
        case {"filter": {"sku": str(sku)}} if sku.startswith("SKU-"):
            return sku.removeprefix("SKU-")
    return None


def by_sku(text: str) -> dict[str, Any]:
    return {"filter": {"sku": f"SKU-{text}"}}


def named(app_key: str, name: str) -> dict[str, str]:
    return {"appKey": app_key, "name": name}


def written(item: Any) -> str:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"))


VENDORS = {
    "bas_ip": Vendor(
        known_as=str.lower,
        shapes=lambda text: [text],
        as_item=str,
        routes=["GET /api/v1/login?password,username", "DELETE /api/v1/contacts/link?"],
        names=frozenset({"link_ids"}),
    ),
    "nimble": Vendor(
        known_as=str,
        shapes=lambda text: [text],
        as_item=str,
        routes=[
            "POST /api/oauth/token?client_id,client_secret,grant_type,refresh_token",
            "DELETE /api/v1/contacts/[A-Za-z0-9_-]+(,[A-Za-z0-9_-]+)*?",
            "GET /api/v1/contact?id",
        ],
        kept=["office-kiss-17", "zoe-fi_2"],
        # Where one word too many is the whole account.
        options={"delete_path": "/api/v1/contacts/{ids}"},
    ),
    "sas_catalog": Vendor(
        known_as=uri_of,
        shapes=lambda text: [text, f"/catalog/instances/{text}", f"/catalog/{text}"],
        as_item=str,
        routes=["POST /SASLogon/oauth/token?grant_type", "POST /catalog/deletions?"],
        names=frozenset({"version", "type", "resources"}),
        kept=["/catalog/instances/office-kiss-17", "/catalog/bots/zoe-fi_2"],
    ),
    "amalto": Vendor(
        known_as=written,
        shapes=lambda text: [named("acme", text), named(text, "One"), text],
        as_item=json.loads,
        routes=["POST /apis/v2/archive/documents/delete?"],
        names=frozenset({"appKey", "name"}),
        kept=[
            written(named("acme", name))
            for name in ("office-kiss-17", "zo\u00eb", "a.b", "\u212a", "x")
        ]
        + [written(named(*name)) for name in (("acme.a", "b"), ("", "acme.a.b"), ("One", "acme"))],
    ),
    "gptbots": Vendor(
        known_as=record_of,
        shapes=lambda text: [text, {"record_id": text}, by_sku(text)],
        as_item=lambda ident: by_sku(ident) if ident > "5" else ident,
        routes=["POST /v2/database/delete/record?", "POST /v1/database/records/page?"],
        names=frozenset(
            {"table_id", "delete_data", "record_id", "filter", "sku", "page", "page_size"}
        ),
        kept=["office-kiss-17", "zo\u00eb", "\u212a"],
        options={"requests_per_second": 10_000, "max_in_flight": 4},
    ),
}


class Watched:
    """A practice backend of a vendor, and every request that came to it."""

    def __init__(self, name: str) -> None:
        self.vendor = VENDORS[name]
        self.practice: Practice = open_practice(name, items=0)
        self.requests: list[Asked] = []
        ids = self.practice.ids(3 * ASKED + KEPT)
        self.kept = [*ids[3 * ASKED :], *self.vendor.kept]
        #: By door.
        self.wanted = [ids[first : first + ASKED] for first in range(0, 3 * ASKED, ASKED)]
        self.practice.told({"add": [*ids, *self.kept]})
        self._answer = self.practice.answer
        self.practice.answer = self._note  # type: ignore[method-assign]

    def _note(self, asked: Asked) -> Said:
        self.requests.append(asked)
        return self._answer(asked)

    def wanted_items(self, door: int) -> list[Any]:
        """What is there and asked for at one door."""
        return [self.vendor.as_item(one) for one in self.wanted[door]]

    def hostile_items(self) -> list[Any]:
        """What names nothing that is there, close as it may come."""
        there = {*self.kept, *(ident for door in self.wanted for ident in door)}
        close = map(self._text_of, self.kept[KEPT - 1 : KEPT + 2])
        texts = [*TEXTS, *(text for one in close for text in twins(one))]
        items = values(self._text_of(self.kept[0]))
        items += [item for text in dict.fromkeys(texts) for item in self.vendor.shapes(text)]
        return [item for item in items if self._known_as(item) not in there]

    def _text_of(self, ident: str) -> str:
        return json.loads(ident)["name"] if ident.startswith("{") else ident.rpartition("/")[2]

    def _known_as(self, item: Any) -> str | None:
        try:
            return self.vendor.known_as(item)
        except (AttributeError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Given:
    """A job through one door: what was given, and what came back."""

    items: list[Any]
    outcomes: dict[int, Outcome]
    duplicates: int


Door = Callable[[Service, str, list[Any]], str]


def whole(service: Service, target: str, items: list[Any]) -> str:
    """One message of the client's."""
    with service.client() as client:
        return client.submit(target, items)


def streamed(service: Service, target: str, items: list[Any]) -> str:
    """So much that the client sends it in chunks."""
    room = [f"{number}{'x' * 15_000}" for number in range(80)]
    with service.client() as client:
        return client.submit(target, [*items, *room])


def foreign(service: Service, target: str, items: list[Any]) -> str:
    """Chunks of somebody who has none of our code, in a wrong order and twice."""
    app = Celery("shop", broker=service.broker_url, set_as_current=False)
    job = str(uuid4())

    def send(name: str, **arguments: Any) -> Any:
        with app.connection_for_write() as connection:
            sent = app.send_task(
                f"deletions.{name}", kwargs=arguments, queue="deletions", connection=connection
            )
        answer = answer_to(service, sent.id)
        assert "error" not in answer, answer
        return answer

    parts = [items[first : first + 300] for first in range(0, len(items), 300)]
    send("open", job=job, target=target, chunk_items=300)
    for number, part in [*reversed(list(enumerate(parts))), (0, parts[0])]:
        send("append", job=job, chunk=number, items=part)
    assert send("seal", job=job, chunks=len(parts))["missing"] == []
    app.close()
    return job


DOORS: tuple[Door, ...] = (whole, streamed, foreign)


@dataclass(frozen=True)
class Deployment:
    """One service on watched backends, and all that went through it."""

    service: Service
    backends: Mapping[str, Watched]
    events: list[dict[str, Any]]
    jobs: dict[str, list[Given]] = field(default_factory=dict)

    def given(self, vendor: str) -> list[Given]:
        """The jobs of a vendor, one by each door; given when they are first needed."""
        if vendor not in self.jobs:
            watched = self.backends[vendor]
            # All of it by the first door, a third of it by each of the others.
            steps = (1, 3, 3)
            lots = [
                mixed(watched.hostile_items()[door::step], watched.wanted_items(door))
                for door, step in enumerate(steps)
            ]
            ids = [door(self.service, vendor, lot) for door, lot in zip(DOORS, lots, strict=True)]
            self.jobs[vendor] = [self._end_of(job, lot) for job, lot in zip(ids, lots, strict=True)]
        return self.jobs[vendor]

    def _end_of(self, job: str, items: list[Any]) -> Given:
        with self.service.client() as client:
            status = client.wait(job)
            assert status.state == "completed", status
            outcomes = {one.position: one for one in client.results(job)}
        return Given(items, outcomes, status.duplicates)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with ExitStack() as opened:
        backends = {name: Watched(name) for name in VENDORS}
        secrets: dict[str, str] = {}
        tables = []
        for name, watched in backends.items():
            server = opened.enter_context(PracticeServer(watched.practice))
            settings = {"adapter": name, "base_url": server.base_url, **watched.vendor.options}
            settings |= watched.practice.settings | {
                "max_failures": 1
            }  # a lot that is meant to fail
            lines = [f"{key} = {as_toml(value, key, secrets)}" for key, value in settings.items()]
            tables.append("\n".join([f"[targets.{name}]", *lines]))
        service = opened.enter_context(
            Service(
                targets={}, toml_extra="\n\n".join(tables), environ=secrets, worker_options=LOUD
            )
        )
        events = opened.enter_context(events_of(service))
        yield Deployment(service, backends, events)


def as_toml(value: Any, key: str, secrets: dict[str, str]) -> str:
    """A setting; a secret is put into the environment."""
    if isinstance(value, dict):
        inner = (f"{name} = {as_toml(one, name, secrets)}" for name, one in value.items())
        return f"{{ {', '.join(inner)} }}"
    if key not in {"password", "token", "client_secret", "refresh_token"}:
        return json.dumps(value)
    variable = f"HOSTILE_{len(secrets)}"
    secrets[variable] = value
    return f'{{ env = "{variable}" }}'


every_vendor = pytest.mark.parametrize("vendor", VENDORS)


@every_vendor
def test_every_item_comes_back_as_it_was_given(deployment: Deployment, vendor: str) -> None:
    for given in deployment.given(vendor):
        back = {place: given.outcomes.get(place) for place in range(len(given.items))}
        doubled = [given.items[place] for place, one in back.items() if one is None]
        altered = [
            (place, given.items[place], one.item)
            for place, one in back.items()
            if one is not None and json.dumps(one.item) != json.dumps(given.items[place])
        ]

        assert altered == []
        assert len(doubled) == given.duplicates


@every_vendor
def test_what_is_there_is_deleted_and_what_is_hostile_is_not_claimed(
    deployment: Deployment, vendor: str
) -> None:
    gone = "accepted" if vendor == "gptbots" else "deleted"
    not_claimed = {"rejected", "absent"} | ({gone} - {"deleted"})
    for door, given in enumerate(deployment.given(vendor)):
        wanted = [json.dumps(one) for one in deployment.backends[vendor].wanted_items(door)]
        verdicts = {json.dumps(one.item): one.verdict for one in given.outcomes.values()}

        assert {verdicts.pop(one) for one in wanted} == {gone}
        assert set(verdicts.values()) <= not_claimed


@every_vendor
def test_what_is_rejected_was_never_sent(deployment: Deployment, vendor: str) -> None:
    """Only a filter of GPTBots is, to be looked up."""
    sent = [
        one.item
        for given in deployment.given(vendor)
        for one in given.outcomes.values()
        if one.verdict == "rejected" and one.attempts
    ]

    assert [item for item in sent if not (vendor == "gptbots" and "filter" in item)] == []


@every_vendor
def test_nothing_but_what_was_asked_for_is_deleted(deployment: Deployment, vendor: str) -> None:
    deployment.given(vendor)
    watched = deployment.backends[vendor]

    assert watched.practice.remaining == set(watched.kept)
    assert watched.practice.deleted == {one: 1 for door in watched.wanted for one in door}


@every_vendor
def test_the_backend_sees_exactly_what_was_carried(deployment: Deployment, vendor: str) -> None:
    watched = deployment.backends[vendor]
    known_as = watched.vendor.known_as
    carried = {
        known_as(one.item)
        for given in deployment.given(vendor)
        for one in given.outcomes.values()
        if one.verdict != "rejected" and not is_unfound(one)
    }

    assert set(watched.practice.asked) == carried


def is_unfound(outcome: Outcome) -> bool:
    """Whether a filter has met no record, so that there was nothing to send."""
    is_filter = isinstance(outcome.item, dict) and "filter" in outcome.item
    return is_filter and outcome.verdict == "absent"


@every_vendor
def test_no_item_changes_where_a_request_goes_or_what_it_says(
    deployment: Deployment, vendor: str
) -> None:
    deployment.given(vendor)
    watched = deployment.backends[vendor]
    routes = [re.compile(route.replace("?", r"\?")) for route in watched.vendor.routes]
    lines = {f"{one.method} {one.path}?{','.join(sorted(one.query))}" for one in watched.requests}
    bodies = [json.loads(one.body) for one in watched.requests if one.body[:1] in {b"{", b"["}]

    assert [line for line in lines if not any(one.fullmatch(line) for one in routes)] == []
    assert {name for body in bodies for name in names_of(body)} <= watched.vendor.names
    assert "X-Injected" not in {name for one in watched.requests for name in one.headers}
    assert watched.practice.trapped == 0


def names_of(document: Any) -> Iterator[str]:
    """Every key of every object in a document."""
    match document:
        case dict():
            yield from document
            for value in document.values():
                yield from names_of(value)
        case list():
            for value in document:
                yield from names_of(value)


@every_vendor
def test_every_door_says_the_same(deployment: Deployment, vendor: str) -> None:
    hostile = {json.dumps(item) for item in deployment.backends[vendor].hostile_items()}
    first, *others = (
        {json.dumps(one.item): (one.verdict, one.code) for one in given.outcomes.values()}
        for given in deployment.given(vendor)
    )

    for other in others:
        common = hostile.intersection(first, other)
        assert len(common) > 50
        assert [item for item in common if first[item] != other[item]] == []


@pytest.mark.parametrize("word", ["list", "ids", "fields", "metadata", "LIST"])
def test_a_word_of_the_vendors_own_routes_is_no_item(deployment: Deployment, word: str) -> None:
    """Nimble: DELETE .../contacts/list, with nothing else, empties the account."""
    before = set(deployment.backends["nimble"].practice.remaining)
    with deployment.service.client() as client:
        job = client.submit("nimble", [word])

        assert client.wait(job).tally["rejected"] == 1
    assert deployment.backends["nimble"].practice.remaining == before


def test_a_filter_is_looked_up_as_it_was_given(deployment: Deployment) -> None:
    """GPTBots: the value of a filter is neither trimmed, folded nor turned into a number."""
    given = deployment.given("gptbots")
    carried = {
        json.dumps(one.item["filter"])
        for one in (found for job in given for found in job.outcomes.values())
        if one.verdict != "rejected" and isinstance(one.item, dict) and "filter" in one.item
    }
    bodies = [json.loads(one.body) for one in deployment.backends["gptbots"].requests]

    asked = {json.dumps(body["filter"]) for body in bodies if "filter" in body}
    assert carried
    assert carried <= asked


def test_an_item_of_a_mebibyte_is_refused_and_the_service_is_well(deployment: Deployment) -> None:
    with deployment.service.client() as client:
        for size in (2**20, 5 * 2**20):
            for item in ("x" * size, {"id": "x" * size}, "\u00fc" * size):
                with pytest.raises(Refused) as refused:
                    client.submit("bas_ip", ["before", item, "after"])
                assert refused.value.code == "too_large"
        job = client.submit("bas_ip", ["well"])

        assert client.wait(job).tally["rejected"] == 1


def test_no_item_is_seen_by_anybody_else(deployment: Deployment) -> None:
    """Log lines at their most talkative, Celery's events, and what is left in Redis."""
    items = [item for vendor in VENDORS for one in deployment.given(vendor) for item in one.items]
    texts = {form for item in items for text in texts_of(item) for form in forms_of(text)}
    logs = "".join(deployment.service.logs().values())
    shown = logs + repr(deployment.events) + everything_in(deployment.service)

    assert len(texts) > 1_000
    assert {one["type"] for one in deployment.events} >= {"task-received", "task-succeeded"}
    assert [ascii(text) for text in texts if text in shown] == []


def test_no_item_forges_a_log_line(deployment: Deployment) -> None:
    for vendor in VENDORS:
        deployment.given(vendor)
    log = deployment.service.logs()["worker1.log"]
    line = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (DEBUG|INFO)/MainProcess\] [ -~]*")

    _, lines = log.split(" ready.\n", 1)
    assert [one for one in lines.split("\n")[:-1] if not line.fullmatch(one)] == []
    assert "CRITICAL" not in log


def texts_of(item: Any) -> Iterator[str]:
    """Every text in an item that is long enough to be told from other words."""
    match item:
        case str() if len(item) > 7:
            yield item[:200]
        case dict():
            for name, value in item.items():
                yield from (*texts_of(name), *texts_of(value))
        case list():
            for value in item:
                yield from texts_of(value)


def forms_of(text: str) -> set[str]:
    """How a text may stand in a log line or in Redis."""
    return {text, repr(text)[1:-1], json.dumps(text)[1:-1], repr(json.dumps(text))[2:-2]}
