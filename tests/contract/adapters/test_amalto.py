"""Amalto: the contract, items on their way, calls in parts, looks and tokens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api_adapters.amalto import Amalto, name_of, part
from api_adapters.amalto_answers import Name
from api_adapters.base import Item, Presence, Verdict
from api_adapters.contract import FreePace, by_key, gone_keys, soon
from api_adapters.contract_http import HttpAdapterContract
from api_adapters.errors import BadItem, Hopeless, Transient
from api_adapters.fakes.amalto import SERVICE, Backend, write_id
from api_adapters.fakes.base import practice_ids
from api_adapters.fakes.faults import Plan
from api_adapters.fakes.server import PracticeServer
from api_adapters.fakes.wire import Wire, ok

TOKEN = "practice-jwt-0-1"
TABLE = {
    "adapter": "amalto",
    "token": {"env": "AMALTO_TOKEN"},
    "service_id": SERVICE,
    "items_name": "documents",
}
ONE, TWO = write_id("acme", "One"), write_id("", "Two")


class TestAmalto(HttpAdapterContract):
    adapter_type = Amalto
    backend_type = Backend
    settings: ClassVar = TABLE
    environment: ClassVar = {"AMALTO_TOKEN": TOKEN}
    hidden = (TOKEN, "Bearer", *practice_ids(6))
    bad_items = (
        7,
        "acme.One",
        {},
        {"name": "One"},
        {"appKey": "acme"},
        {"appKey": "acme", "name": ""},
        {"appKey": None, "name": "One"},
        {"appKey": "acme", "name": 2**60},
        {"appKey": "acme", "name": ["One"]},
        {"appKey": "acme", "name": "One", "all": True},
        {"appKey": "acme", "name": "x" * 2**20},
        {"appKey": "acme", "name": "\ud800"},
    )
    same_items = (({"appKey": "acme", "name": "One"}, {"name": "One", "appKey": "acme"}),)

    def item(self, ident: str) -> Item:
        item: Item = json.loads(ident)
        return item


# Rule 4: items that could share an error key go into different requests.
@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ([("a", "b.c"), ("a.b", "c")], 2),
        ([("", "a.b"), ("a", "b")], 2),
        ([("", ".a"), ("", "a")], 2),
        ([("a", "b.c"), ("a.b", "c"), ("", "a.b.c"), ("x", "y")], 3),
        ([("a", "b"), ("b", "a"), ("", "ab")], 1),
    ],
)
def test_items_that_could_share_a_key_are_parted(names: list[tuple[str, str]], parts: int) -> None:
    found = part({str(index): Name(*name) for index, name in enumerate(names)})

    assert len(found) == parts
    assert sorted(key for one in found for key in one) == sorted(map(str, range(len(names))))


# Rule 6 and the doors: text that looks like something else is carried as it is.
@pytest.mark.parametrize(
    "text",
    [
        '"},{"appKey":"","name":"All"',
        "../../delete?all=1#",
        "a/b\\c%2F..",
        "x\r\nAuthorization: y",
        "\x00\u2028",
        "e\u0301",
        "\u00e9",
        "9007199254740993",
        "\U0001f5d1",
    ],
)
@pytest.mark.parametrize("form", ["query", "path"])
def test_an_item_is_carried_intact(server: PracticeServer, form: str, text: str) -> None:
    adapter = make(server.base_url, probe=form, item_name="document")
    server.practice.remaining |= {write_id("acme", text)}
    sent = by_key(adapter, [{"appKey": "acme", "name": text}])
    [key] = sent

    seen = adapter.probe(sent, until=soon()), adapter.delete(sent, until=soon())

    assert seen[0] == {key: Presence.THERE}
    assert seen[1].findings[key].verdict is Verdict.DELETED
    assert server.practice.remaining == {ONE, TWO}
    assert adapter.probe(sent, until=soon()) == {key: Presence.GONE}
    adapter.close()


@given(st.text(), st.text(), st.text(), st.text())
def test_two_items_have_one_key_only_if_they_are_one(a: str, b: str, c: str, d: str) -> None:
    adapter = make("http://amalto")
    one, other = {"appKey": a, "name": b or "b"}, {"appKey": c, "name": d or "d"}
    try:
        keys = adapter.key(one), adapter.key(other)
    except BadItem:
        return
    assert (keys[0] == keys[1]) == (name_of(one) == name_of(other))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PracticeServer]:
    monkeypatch.setenv("AMALTO_TOKEN", TOKEN)
    with PracticeServer(Backend([ONE, TWO])) as server:
        yield server


def make(base_url: str, **more: Any) -> Amalto:
    given = {**TABLE, "base_url": base_url, **more}
    return Amalto(Amalto.Settings.model_validate(given), pace=FreePace())


SHARING: list[Item] = [
    {"appKey": "a", "name": "b.c"},
    {"appKey": "a.b", "name": "c"},
    {"appKey": "", "name": "a.b.c"},
]


def test_a_call_in_parts_is_one_reply(server: PracticeServer) -> None:
    adapter = make(server.base_url)
    server.practice.remaining |= {adapter.key(item) for item in SHARING[:2]}

    reply = adapter.delete(by_key(adapter, SHARING), until=soon())

    assert [str(found.verdict) for found in reply.findings.values()] == [
        "deleted",
        "deleted",
        "absent",
    ]
    assert server.practice.calls == 3
    adapter.close()


@pytest.mark.parametrize(
    ("plan", "first", "may_have_run"),
    [
        ("lost@2", "deleted", True),
        ("busy:1@2", "deleted", False),
        ("omitted@1,error@2", "unknown", True),
    ],
)
def test_a_part_that_fails_leaves_the_earlier_told_and_the_later_unsent(
    server: PracticeServer, plan: str, first: str, *, may_have_run: bool
) -> None:
    adapter = make(server.base_url)
    keys = list(by_key(adapter, SHARING))
    server.practice.remaining |= set(keys)
    server.practice.plan = Plan(plan)

    reply = adapter.delete(by_key(adapter, SHARING), until=soon())

    assert {key: str(found.verdict) for key, found in reply.findings.items()} == {keys[0]: first}
    assert reply.unsent == {keys[2]}
    assert isinstance(reply.error, Transient)
    assert reply.error.may_have_run is may_have_run
    adapter.close()


@pytest.mark.parametrize(
    ("plan", "verdicts"),
    [("as_text", ["deleted", "absent"]), ("miscounted", ["unknown"]), ("omitted", ["absent"])],
)
def test_counts_and_numbers_as_installations_may_write_them(
    server: PracticeServer, plan: str, verdicts: list[str]
) -> None:
    adapter = make(server.base_url)
    server.practice.plan = Plan(plan)
    items: list[Item] = [{"appKey": "acme", "name": "One"}, {"appKey": "", "name": "Three"}]

    reply = adapter.delete(by_key(adapter, items), until=soon())

    assert [str(found.verdict) for found in reply.findings.values()] == verdicts
    adapter.close()


def test_locked_and_broken_items_take_nobody_along(server: PracticeServer) -> None:
    adapter, practice = make(server.base_url), server.practice
    assert isinstance(practice, Backend)
    locked, broken = write_id("acme", "locked"), write_id("acme", "broken")
    practice.remaining |= {locked, broken}
    practice.locked, practice.broken = {locked}, {broken}
    sent = by_key(adapter, [json.loads(ident) for ident in (ONE, locked, broken)])

    reply = adapter.delete(sent, until=soon())

    verdicts = {key: str(found.verdict) for key, found in reply.findings.items()}
    assert verdicts == {ONE: "deleted", locked: "denied", broken: "unknown"}
    adapter.close()


def test_a_path_has_no_form_for_an_empty_part_or_a_directory(server: PracticeServer) -> None:
    adapter = make(server.base_url, probe="path", item_name="document")
    names = [("", "Two"), ("acme", ".."), (".", "One"), ("acme", "One")]
    sent = by_key(adapter, [{"appKey": key, "name": name} for key, name in names])

    assert adapter.probe(sent, until=soon()) == {ONE: Presence.THERE}

    assert server.practice.requests == 1
    adapter.close()


def test_a_token_from_a_file_is_read_anew_once_it_is_refused(
    server: PracticeServer, tmp_path: Path
) -> None:
    (tmp_path / "jwt").write_text(TOKEN)
    adapter = make(server.base_url, token={"file": str(tmp_path / "jwt")})
    adapter.check(until=soon())
    server.practice.expire()
    (tmp_path / "jwt").write_text(server.practice.settings["token"])

    reply = adapter.delete({ONE: json.loads(ONE)}, until=soon())

    assert gone_keys(reply) == {ONE}
    adapter.close()


def test_a_token_that_stays_refused_closes_the_target(server: PracticeServer) -> None:
    adapter = make(server.base_url, authorization="<jwt>")

    for act in (adapter.check, lambda until: adapter.delete({ONE: json.loads(ONE)}, until=until)):
        with pytest.raises(Hopeless, match="token or authorization") as failure:
            act(until=soon())
        assert failure.value.closes_target
        assert not failure.value.may_have_run
    assert server.practice.requests == 4
    adapter.close()


@pytest.mark.parametrize("body", [b"[]", b'{"name":"everything","appKey":""}'])
def test_a_look_that_finds_what_nobody_has_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setenv("AMALTO_TOKEN", TOKEN)
    with Wire(ok(body)) as wire:
        adapter = make(wire.url)

        with pytest.raises(Hopeless, match="probe or item_name") as failure:
            adapter.check(until=soon())

        assert not failure.value.may_have_run
        adapter.close()


def test_a_wrong_name_closes_the_target(server: PracticeServer) -> None:
    adapter = make(server.base_url, items_name="papers")

    with pytest.raises(Hopeless, match="items_name") as failure:
        adapter.delete({ONE: json.loads(ONE)}, until=soon())

    assert failure.value.closes_target
    assert not failure.value.may_have_run
    adapter.close()


@pytest.mark.parametrize(
    "given",
    [
        {"token": "literal"},
        {"service_id": ""},
        {"service_id": "a/b"},
        {"items_name": ".."},
        {"items_name": "a?b"},
        {"probe": "list"},
        {"probe": "path"},
        {"item_name": "a b", "probe": "path"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer <jwt>\r\n"},
    ],
)
def test_a_table_that_cannot_work_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make("http://amalto", **given)
