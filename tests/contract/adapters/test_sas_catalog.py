"""SAS Catalog: the contract, the table of verdicts, and whatever a server may answer."""

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api_adapters.answer import USUAL_WAIT, Answer
from api_adapters.base import Breach, Presence, Reply, Verdict
from api_adapters.contract import FreePace, assert_sound, by_key, gone_keys, soon
from api_adapters.contract_http import HttpAdapterContract
from api_adapters.errors import (
    BadItem,
    CallFailed,
    Hopeless,
    Refused,
    Transient,
)
from api_adapters.fakes.sas_catalog import (
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    USERNAME,
    Backend,
)
from api_adapters.fakes.server import PracticeServer
from api_adapters.fakes.wire import Wire, ok
from api_adapters.sas_catalog import SasCatalog
from api_adapters.sas_catalog_answers import read_answer

IDS = Backend.ids(40)
ONE, TWO, STRANGER = IDS[:3]
UUID = ONE.rpartition("/")[2]
RECASED = "/catalog/instances/" + UUID.upper()
OAUTH = {"client_id": CLIENT_ID, "client_secret": {"env": "CATALOG_SECRET"}}
USER = {"username": USERNAME, "password": {"env": "CATALOG_PASSWORD"}}
SECRETS = {"CATALOG_SECRET": CLIENT_SECRET, "CATALOG_PASSWORD": PASSWORD}
#: What would change the address, the body or the object, and what is no object.
BAD = (
    7,
    2**53 + 1,
    {"id": UUID},
    "/catalog/types/x",
    "/catalog/indexDefinitions/x",
    f"/catalog/locks/{UUID}",
    f"/Catalog/instances/{UUID}",
    f"catalog/instances/{UUID}",
    f"https://elsewhere.example/catalog/instances/{UUID}",
    f"//elsewhere.example/catalog/instances/{UUID}",
    "/catalog/instances/",
    "/catalog/instances",
    f"/catalog/instances/{UUID}/",
    f"/catalog/instances/../types/{UUID}",
    "/catalog/instances/..",
    f"/catalog/instances/{UUID}?force=true",
    f"/catalog/instances/{UUID}#x",
    "/catalog/instances/%2e%2e",
    f"/catalog/instances/{UUID}\n",
    f" {UUID}",
    f'{UUID}","/catalog/instances/x',
    "\r\nX-Own: yes",
    "{id}",
    UUID.replace(UUID[0], "\uff11"),
    "e\u0301",
    "\ud800",
    "a" * 65,
    "a" * 2**20,
)


class TestSasCatalog(HttpAdapterContract):
    adapter_type = SasCatalog
    backend_type = Backend
    settings: ClassVar = {"adapter": "sas_catalog", "oauth": {**OAUTH, **USER}}
    environment: ClassVar = SECRETS
    hidden = (
        "practice-token-0-1",
        CLIENT_SECRET,
        b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode(),
        "Bearer",
    )
    bad_items = BAD
    same_items = (
        (UUID, f"/catalog/instances/{UUID}"),
        (UUID.upper(), ONE),
        (TWO, TWO.replace("/catalog/instances/", "").upper()),
    )


def answer(status: int, body: Any) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {}, raw, "http://viya delete objects")


def read(status: int, body: Any, sent: tuple[str, ...] = (ONE, TWO)) -> Reply:
    return read_answer(answer(status, body), sent)


def error(status: Any = None, **more: Any) -> dict[str, Any]:
    known = {} if status is None else {"httpStatusCode": status}
    return {"version": 2, **known, "message": f"{UUID} was not deleted", **more}


# One line per rule of the vendor's file: the answer's status, the value of one
# resource, and what becomes of it.
@pytest.mark.parametrize(
    ("status", "told", "verdict", "breach"),
    [
        # Rule 3: {} is the only success.
        (200, {}, Verdict.DELETED, None),
        (200, None, Verdict.UNKNOWN, Breach.UNHEARD),
        (200, "deleted", Verdict.UNKNOWN, Breach.UNHEARD),
        (200, [], Verdict.UNKNOWN, Breach.UNHEARD),
        (200, {"deleted": True}, Verdict.UNKNOWN, Breach.UNHEARD),
        # Rule 1: the map counts whatever the status.
        (400, {}, Verdict.DELETED, Breach.CONTRADICTION),
        (404, {}, Verdict.DELETED, Breach.CONTRADICTION),
        (401, {}, Verdict.UNKNOWN, Breach.CONTRADICTION),
        (401, error(), Verdict.DENIED, None),
        # Rule 2: the item's status, else the shared one, else failed.
        (200, error(404), Verdict.ABSENT, None),
        (200, error(410), Verdict.ABSENT, None),
        (200, error("404"), Verdict.ABSENT, None),
        (200, error(401), Verdict.DENIED, None),
        (200, error(403), Verdict.DENIED, None),
        (200, error(409), Verdict.DENIED, None),
        (200, error(423), Verdict.DENIED, None),
        (200, error(400), Verdict.REJECTED, None),
        (200, error(422), Verdict.REJECTED, None),
        (200, error(408), Verdict.UNKNOWN, None),
        (200, error(500), Verdict.UNKNOWN, None),
        (200, error(503), Verdict.UNKNOWN, None),
        (404, error(), Verdict.ABSENT, None),
        (404, error(0), Verdict.ABSENT, None),
        (403, error(0), Verdict.DENIED, None),
        (404, error(403), Verdict.DENIED, None),
        (429, {}, Verdict.DELETED, Breach.CONTRADICTION),
        (429, error(403), Verdict.DENIED, None),
        (503, error(0), Verdict.UNKNOWN, None),
        (500, error(), Verdict.UNKNOWN, None),
        (200, error(), Verdict.FAILED, None),
        (200, error(0), Verdict.FAILED, None),
        (400, error(), Verdict.FAILED, None),
        (400, error("soon"), Verdict.FAILED, None),
        (200, error(200), Verdict.FAILED, Breach.CONTRADICTION),
    ],
)
def test_the_table_of_verdicts(
    status: int, told: Any, verdict: Verdict, breach: Breach | None
) -> None:
    reply = read(status, {ONE: told, TWO: error(404)})

    assert reply.findings[ONE].verdict is verdict
    assert reply.findings[TWO].verdict is Verdict.ABSENT
    assert [warned.breach for warned in reply.warnings] == ([breach] if breach else [])


def test_a_resource_that_the_map_leaves_out_stays_open() -> None:
    assert set(read(200, {ONE: {}}).findings) == {ONE}


@pytest.mark.parametrize("told", [error(429), error(0)])
def test_what_was_too_much_waits_without_a_doubt_and_the_others_are_told(told: Any) -> None:
    body = json.dumps({ONE: {}, TWO: told}).encode()
    sent = (ONE, TWO, STRANGER)

    reply = read_answer(Answer(429, {"retry-after": "7"}, body, "http://viya"), sent)

    assert reply.findings[ONE].verdict is Verdict.DELETED
    assert TWO not in reply.findings
    assert reply.findings[STRANGER].verdict is Verdict.UNKNOWN
    assert isinstance(reply.error, Transient)
    assert (reply.error.wait, reply.error.may_have_run) == (timedelta(seconds=7), False)


def test_one_resource_that_was_too_much_waits_as_long_as_usual() -> None:
    error_of_two = read(200, {ONE: {}, TWO: error(429)}).error

    assert isinstance(error_of_two, Transient)
    assert error_of_two.wait == USUAL_WAIT


def test_a_fault_that_tells_how_long_is_waited_out() -> None:
    raw = json.dumps(error(503)).encode()

    with pytest.raises(Transient) as failure:
        read_answer(Answer(503, {"retry-after": "7"}, raw, "http://viya"), (ONE,))

    assert failure.value.wait == timedelta(seconds=7)


def test_the_vendors_code_and_message_are_told_without_the_id() -> None:
    found = read(200, {ONE: error(404, errorCode=12345, details=["traceId: 7"])}).findings[ONE]

    assert (found.code, found.message) == ("12345", "<id> was not deleted")


def test_a_stranger_changes_nothing_for_the_named() -> None:
    reply = read(200, {ONE: {}, STRANGER: {}, f"{ONE}x": {}})

    assert set(reply.findings) == {ONE}
    assert [warned.breach for warned in reply.warnings] == [Breach.STRANGER]


def test_one_resource_told_twice_differently_stays_open() -> None:
    reply = read(200, {ONE: {}, RECASED: error(404)})

    assert reply.findings[ONE].verdict is Verdict.UNKNOWN
    assert [warned.breach for warned in reply.warnings] == [Breach.CONTRADICTION]


@pytest.mark.parametrize(
    ("status", "body", "kind", "may_have_run", "code"),
    [
        (400, error(400, errorCode=12345), Refused, True, "12345"),
        (400, error(), Refused, True, "400"),
        (401, error(401), Hopeless, False, "401"),
        (401, b"", Hopeless, False, "401"),
        (403, error(403), Hopeless, True, "403"),
        (403, b"", Hopeless, True, "403"),
        (404, error(404), Hopeless, False, "404"),
        (404, b"default backend", Hopeless, False, "404"),
        (404, {}, Hopeless, False, "404"),
        (405, b"", Hopeless, False, "405"),
        (415, error(415), Hopeless, False, "415"),
        (500, error(500), Transient, True, "500"),
        (503, error(0), Transient, True, "503"),
        (502, b"<html>", Transient, True, "502"),
        (429, error(429), Transient, False, "429"),
        (429, b"", Transient, False, "429"),
        (307, {ONE: {}}, Transient, True, "307"),
        (200, error(500), Transient, True, "500"),
        (200, error(400), Refused, True, "400"),
        (200, error(401), Hopeless, False, "401"),
        (200, error(403), Hopeless, True, "403"),
        (200, error(404), Hopeless, False, "404"),
        (200, error("415"), Hopeless, False, "415"),
        (200, error(), Transient, True, "200"),
        (200, {ONE: {}, **error()}, Transient, True, "200"),
        (200, {}, Transient, True, "200"),
        (200, [ONE], Transient, True, "200"),
        (200, {"ids": [ONE]}, Transient, True, "200"),
        (200, b"", Transient, True, "200"),
        (200, b'{"/catalog', Transient, True, "200"),
    ],
)
def test_the_table_of_failures(
    status: int, body: Any, kind: type[CallFailed], *, may_have_run: bool, code: str
) -> None:
    with pytest.raises(kind) as failure:
        read(status, body)

    assert (failure.value.may_have_run, failure.value.code) == (may_have_run, code)
    assert UUID not in str(failure.value)


def test_a_wrong_base_path_is_no_proof_of_absence() -> None:
    with pytest.raises(Hopeless, match="base_url") as failure:
        read(404, error(404))

    assert failure.value.closes_target


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"token": {"env": "T"}, "oauth": OAUTH},
        {"token": "literal"},
        {"oauth": {**OAUTH, "username": "admin"}},
        {"oauth": {**OAUTH, "password": {"env": "P"}}},
        {"oauth": {**OAUTH, "client_id": "a:b"}},
        {"oauth": {**OAUTH, "client_id": ""}},
        {"token": {"env": "T"}, "template": "/catalog/types/{id}"},
        {"token": {"env": "T"}, "template": "/catalog/instances/"},
        {"token": {"env": "T"}, "template": "/catalog/locks/{id}"},
    ],
)
def test_a_table_that_cannot_work_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SasCatalog.Settings(adapter="sas_catalog", base_url="http://viya", **given)


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, "CATALOG_TOKEN": "token"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def server() -> Iterator[PracticeServer]:
    with PracticeServer(Backend(IDS)) as server:
        yield server


@pytest.fixture
def backend(server: PracticeServer) -> Backend:
    assert isinstance(server.practice, Backend)
    return server.practice


@pytest.fixture
def adapter(server: PracticeServer) -> Iterator[SasCatalog]:
    adapter = make(server.base_url, oauth=OAUTH)
    yield adapter
    adapter.close()


def make(base_url: str, **more: Any) -> SasCatalog:
    table = {"adapter": "sas_catalog", "base_url": base_url, **more}
    if "oauth" not in table:
        table["token"] = {"env": "CATALOG_TOKEN"}
    return SasCatalog(SasCatalog.Settings.model_validate(table), pace=FreePace())


def delete(adapter: SasCatalog, *items: str) -> Reply:
    sent = by_key(adapter, items)
    reply = adapter.delete(sent, until=soon())
    assert_sound(reply, sent)
    return reply


def test_a_bare_id_is_expanded_with_the_template() -> None:
    adapter = make("http://viya", template="/catalog/bots/{id}")

    assert adapter.key(UUID.upper()) == f"/catalog/bots/{UUID}"
    assert adapter.key("Not-A-Uuid") == "/catalog/bots/Not-A-Uuid"


def test_locks_are_taken_only_where_allowed() -> None:
    uri = f"/catalog/locks/{UUID}"

    assert make("http://viya", allow_locks=True).key(uri) == uri
    with pytest.raises(BadItem, match="allow_locks"):
        make("http://viya").key(uri)


@given(st.text(max_size=12) | st.sampled_from(BAD[3:]) | st.integers())
def test_an_item_is_refused_or_carried_intact(item: Any) -> None:
    try:
        key = make("http://viya").key(item)
    except BadItem:
        return
    assert key == f"/catalog/instances/{item}"
    assert key.isascii()


def test_the_request_is_what_the_vendor_documents() -> None:
    with Wire(ok(json.dumps({ONE: {}}).encode())) as wire:
        adapter = make(f"{wire.url}/viya")

        delete(adapter, UUID.upper())

        head, _, body = wire.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /viya/catalog/deletions HTTP/1.1")
        assert b"content-type: application/vnd.sas.selection+json" in head
        assert b"accept: application/json" in head
        assert json.loads(body) == {"version": 1, "type": "uri", "resources": [ONE]}
        adapter.close()


def test_an_empty_list_is_never_sent(adapter: SasCatalog, backend: Backend) -> None:
    assert adapter.delete({}, until=soon()) == Reply()

    assert backend.requests == 0


@pytest.mark.parametrize("status", ["401 Unauthorized", "200 OK"])
def test_a_single_401_is_replayed_once(status: str) -> None:
    with Wire(ok(json.dumps(error(401)).encode(), status=status), stays_open=True) as wire:
        adapter = make(wire.url)

        with pytest.raises(Hopeless, match="token or oauth") as failure:
            delete(adapter, ONE)

        assert (failure.value.closes_target, failure.value.may_have_run) == (True, False)
        assert len(wire.requests) == 2
        adapter.close()


@pytest.mark.parametrize(
    ("items", "verdicts"),
    [
        ([ONE, "f" * 9], [Verdict.DELETED, Verdict.ABSENT]),
        ([TWO, "f" * 9], [Verdict.DENIED, Verdict.ABSENT]),
        ([TWO], [Verdict.DENIED]),
        (["e" * 9, "f" * 9], [Verdict.ABSENT, Verdict.ABSENT]),
    ],
)
def test_200_400_and_a_shared_status_tell_the_same(
    adapter: SasCatalog, backend: Backend, items: list[str], verdicts: list[Verdict]
) -> None:
    backend.kept = {TWO}

    reply = delete(adapter, *items)

    assert [reply.findings[adapter.key(item)].verdict for item in items] == verdicts


@pytest.mark.parametrize("plan", ["as_text", "unnumbered"])
def test_status_numbers_as_text_or_none_call_nothing_gone_that_is_there(
    adapter: SasCatalog, backend: Backend, plan: str
) -> None:
    backend.kept = {TWO}
    backend.told({"misbehave": plan})

    reply = delete(adapter, ONE, TWO, "e" * 9, "f" * 9)

    assert reply.findings[ONE].verdict is Verdict.DELETED
    assert gone_keys(reply).isdisjoint(backend.remaining)
    assert len(reply.findings) == 4


def test_a_401_with_a_map_is_replayed_and_then_denied() -> None:
    body = json.dumps({ONE: error(401)}).encode()
    with Wire(ok(body, status="401 Unauthorized"), stays_open=True) as wire:
        adapter = make(wire.url)

        assert delete(adapter, ONE).findings[ONE].verdict is Verdict.DENIED

        assert len(wire.requests) == 2
        adapter.close()


@pytest.mark.parametrize("user", [{}, USER])
def test_both_ways_to_log_in_open_the_catalog(server: PracticeServer, user: Any) -> None:
    adapter = make(server.base_url, oauth={**OAUTH, **user})

    assert gone_keys(delete(adapter, ONE)) == {ONE}
    adapter.close()


def test_a_token_near_its_end_is_renewed_before_it_is_refused(
    adapter: SasCatalog, backend: Backend
) -> None:
    backend.expires_in = 0.000_001

    delete(adapter, ONE)
    delete(adapter, TWO)

    assert (backend.logins, backend.calls) == (2, 2)


@pytest.mark.parametrize("name", ["CATALOG_SECRET", "CATALOG_PASSWORD"])
def test_a_login_that_is_refused_is_hopeless_and_named(
    server: PracticeServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "wrong")
    adapter = make(server.base_url, oauth={**OAUTH, **USER})

    with pytest.raises(Hopeless, match="change oauth") as failure:
        delete(adapter, ONE)

    assert (failure.value.closes_target, failure.value.may_have_run) == (True, False)
    assert server.practice.requests == 1
    adapter.close()


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ({ONE: 200, TWO: 404, "/": 200}, {ONE: Presence.THERE, TWO: Presence.GONE}),
        ({ONE: 403, TWO: 404, "/": 200}, {TWO: Presence.GONE}),
        ({ONE: 404, TWO: 404, "/": 404}, Hopeless),
        ({ONE: 404, TWO: 404, "/": 503}, Transient),
        ({ONE: 500, TWO: 404, "/": 200}, Transient),
        # What was seen before a look failed is not lost with it.
        ({ONE: 404, TWO: 500, "/": 200}, {ONE: Presence.GONE}),
        ({ONE: 200, TWO: 404, "/": 503}, {ONE: Presence.THERE}),
        ({ONE: 200, TWO: 404, "/": 404}, Hopeless),
    ],
)
def test_a_404_proves_absence_only_where_the_catalog_answers(
    adapter: SasCatalog, monkeypatch: pytest.MonkeyPatch, answers: dict[str, int], seen: Any
) -> None:
    def look(method: str, path: str, *_: Any) -> Answer:
        return answer(answers[path.replace("/catalog/", "/") if path == "/catalog/" else path], b"")

    monkeypatch.setattr(adapter, "_look", look)
    if isinstance(seen, dict):
        assert adapter.probe(by_key(adapter, [ONE, TWO]), until=soon()) == seen
        return
    with pytest.raises(seen):
        adapter.probe(by_key(adapter, [ONE, TWO]), until=soon())


def test_where_head_is_not_taken_get_is_asked(
    adapter: SasCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(method: str, *_: Any) -> Answer:
        return answer(405 if method == "HEAD" else 200, b"")

    monkeypatch.setattr(adapter, "_look", look)

    assert adapter.probe({ONE: ONE}, until=soon()) == {ONE: Presence.THERE}


def test_a_check_says_that_the_call_is_internal(adapter: SasCatalog) -> None:
    assert "Internal-Use Only" in adapter.check(until=soon()).not_shown


NAMES = [ONE, RECASED, TWO, STRANGER, "message", "errorCode", "httpStatusCode"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([ONE, 0, 404, "404", 403, 500, {}]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
        | st.fixed_dictionaries({"message": inner}, optional={"httpStatusCode": inner})
    ),
    max_leaves=12,
)
MAPS = st.dictionaries(st.sampled_from(NAMES[:4]), JSON, max_size=4)


@given(status=st.integers(200, 599), document=JSON | MAPS)
@settings(max_examples=100, deadline=None)
def test_whatever_document_comes_nothing_is_claimed_that_it_does_not_say(
    status: int, document: Any
) -> None:
    try:
        reply = read(status, document)
    except (Transient, Refused, Hopeless):
        return
    assert_sound(reply, (ONE, TWO))
    for key in gone_keys(reply):
        told = [value for name, value in document.items() if name.lower() == key.lower()]
        for value in told:
            own = str(value.get("httpStatusCode"))
            assert value == {} or own in {"404", "410"} or status in {404, 410}


def test_whatever_bytes_come_nothing_but_the_three_errors_is_raised() -> None:
    with Wire() as wire:
        adapter = make(wire.url)

        @given(
            st.binary(max_size=300)
            | (JSON | MAPS).map(lambda document: ok(json.dumps(document).encode()))
        )
        @settings(max_examples=100, deadline=None)
        def answer_with(raw: bytes) -> None:
            wire.answer = raw
            for ask in (adapter.delete, adapter.probe):
                try:
                    came = ask(by_key(adapter, [ONE, TWO]), until=soon())
                except (Transient, Refused, Hopeless):
                    continue
                if isinstance(came, Reply):
                    assert_sound(came, (ONE, TWO))

        answer_with()
        adapter.close()
