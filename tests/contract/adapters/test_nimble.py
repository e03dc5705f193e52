"""Nimble: the contract, the table of answers, and whatever a server may answer."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api_adapters.answer import Answer
from api_adapters.base import Breach, Deadline, Evidence, Presence, Reply, Verdict
from api_adapters.contract import FreePace, assert_sound, by_key, gone_keys, soon
from api_adapters.contract_http import HttpAdapterContract
from api_adapters.errors import (
    BadItem,
    CallFailed,
    Hopeless,
    Paced,
    Refused,
    Transient,
)
from api_adapters.fakes.base import Asked, Said
from api_adapters.fakes.faults import Fault
from api_adapters.fakes.nimble import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Backend
from api_adapters.fakes.server import PracticeServer
from api_adapters.fakes.wire import Wire, ok
from api_adapters.nimble import LONGEST_ADDRESS, Nimble
from api_adapters.nimble_answers import read_answer, read_probe

IDS = Backend.ids(40)
ONE, TWO, STRANGER = IDS[:3]
OAUTH = {
    "client_id": CLIENT_ID,
    "client_secret": {"env": "CRM_SECRET"},
    "refresh_token": {"env": "CRM_CONSENT"},
}
SECRETS = {"CRM_SECRET": CLIENT_SECRET, "CRM_CONSENT": REFRESH_TOKEN}
#: Ids that would change the address, the header or the account, and no ids at all.
BAD = (
    -1,
    True,
    10**64,
    {"id": ONE},
    "list",
    "LIST",
    "ids",
    f"{ONE},{TWO}",
    f"{ONE}/notes",
    f"../{ONE}",
    "..",
    f"{ONE}?deletion_method=force",
    f"{ONE}#",
    "%2e%2e",
    f"{ONE} ",
    f"{ONE}\n",
    f"{ONE}\r\nX-Nimble-Token: x",
    '"]}',
    "\uff11\uff12",
    "e\u0301",
    "\ud800",
    "a" * 65,
    "a" * 2**20,
)


class TestNimble(HttpAdapterContract):
    adapter_type = Nimble
    backend_type = Backend
    settings: ClassVar = {"adapter": "nimble", "oauth": OAUTH}
    environment: ClassVar = SECRETS
    hidden = ("practice-token-0-1", CLIENT_SECRET, REFRESH_TOKEN, "Bearer")
    bad_items = BAD
    same_items = ((384348, "384348"), (2**53 + 1, "9007199254740993"))


class TestNimbleByPath(TestNimble):
    """The same with the older forms of the deletion and of the probe."""

    settings: ClassVar = {
        **TestNimble.settings,
        "delete_path": "/api/v1/contacts/{ids}",
        "probe": "path",
    }


def answer(status: int, body: Any) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {}, raw, "http://crm delete contacts")


def done(*ids: Any, status: Any = "ok") -> dict[str, Any]:
    return {"status": status, "data": {"ids": list(ids)}}


ABSENT_404 = {"object_type": "contact", "object_id": ONE}
PROBED = (Verdict.ABSENT, Evidence.PROBE)
PREFLIGHT = {"errors": [{"type": "relations", "message": f"{ONE} has deals", "total": 1}]}


# One line per answer of the vendor's file: what the first of two ids is called
# that is seen to be there still, and that is seen to be gone.
@pytest.mark.parametrize(
    ("status", "body", "settled", "there", "gone"),
    [
        (200, done(ONE, TWO), (Verdict.DELETED, Evidence.ITEM), None, None),
        (200, done(TWO), None, Verdict.DENIED, PROBED),
        (200, done(), None, Verdict.DENIED, PROBED),
        (200, {"status": "ok"}, None, Verdict.DENIED, PROBED),
        (200, {"status": "ok", "data": {}}, None, Verdict.DENIED, PROBED),
        (200, {"status": "ok", "data": [ONE]}, None, Verdict.DENIED, PROBED),
        (200, done(ONE, status="error"), None, Verdict.DENIED, (Verdict.DELETED, Evidence.PROBE)),
        (200, done(ONE, status=None), None, Verdict.DENIED, (Verdict.DELETED, Evidence.PROBE)),
        (200, done(TWO, status="error"), None, Verdict.DENIED, PROBED),
        (200, {"status": "failed"}, None, Verdict.DENIED, PROBED),
        (200, {}, None, Verdict.DENIED, PROBED),
        (200, b"", None, Verdict.DENIED, PROBED),
        (204, b"", None, Verdict.DENIED, PROBED),
        # A named one that is there still is neither deleted nor denied.
        (500, done(ONE), None, Verdict.UNKNOWN, (Verdict.DELETED, Evidence.PROBE)),
        (404, ABSENT_404, (Verdict.ABSENT, Evidence.ITEM), None, None),
        (
            404,
            {**ABSENT_404, "object_type": "Company"},
            (Verdict.ABSENT, Evidence.ITEM),
            None,
            None,
        ),
        (404, {**ABSENT_404, "object_id": TWO}, None, None, PROBED),
    ],
)
def test_the_table_of_answers(
    status: int, body: Any, settled: Any, there: Verdict | None, gone: Any
) -> None:
    told = read_answer(answer(status, body), (ONE, TWO))

    found = told.reply.findings.get(ONE)
    assert (found and (found.verdict, found.evidence)) == settled
    assert (ONE in told.to_look_at) == (settled is None)
    if settled is None:
        assert (told.there and told.there.verdict) == there
        assert (told.gone(ONE).verdict, told.gone(ONE).evidence) == gone


@pytest.mark.parametrize(
    ("status", "body", "kind", "may_have_run", "code"),
    [
        (409, {"message": "m", "code": 245}, Refused, True, "245"),
        (409, {"message": "m", "code": "245", "errors": {}}, Refused, True, "245"),
        (409, {"message": "m"}, Refused, True, "409"),
        (409, {"errors": {"ids": "m"}}, Refused, True, "409"),
        (200, {"message": "m", "code": 245}, Refused, True, "245"),
        (200, {"status": "error", "message": "m", "code": 107}, Transient, True, "107"),
        (402, {"message": "m", "code": 108}, Hopeless, True, "108"),
        (402, b"", Hopeless, True, "108"),
        (403, {"message": "Can't authenticate request"}, Hopeless, False, "403"),
        (403, {"message": "Not yours"}, Hopeless, True, "403"),
        (401, {"error": "invalid_token"}, Hopeless, False, "401"),
        (401, done(ONE, TWO), Hopeless, False, "401"),
        (404, {"message": "no route"}, Hopeless, False, "404"),
        (404, b"<html>", Hopeless, False, "404"),
        (405, b"", Hopeless, False, "405"),
        (406, PREFLIGHT, Refused, False, "406"),
        (415, b"", Hopeless, False, "415"),
        (500, {"message": "m", "code": 107}, Transient, True, "107"),
        (500, {"message": "m", "code": "107"}, Transient, True, "107"),
        (502, b"<html>", Transient, True, "502"),
        (429, b"", Transient, False, "429"),
        (302, done(ONE, TWO), Transient, True, "302"),
        (200, [], Transient, True, "200"),
        (200, b"null", Transient, True, "200"),
        (200, b'{"status": "ok", "da', Transient, True, "200"),
    ],
)
def test_the_table_of_failures(
    status: int, body: Any, kind: type[CallFailed], *, may_have_run: bool, code: str
) -> None:
    with pytest.raises(kind) as failure:
        read_answer(answer(status, body), (ONE, TWO))

    assert (failure.value.may_have_run, failure.value.code) == (may_have_run, code)
    assert ONE not in str(failure.value)


def test_a_preflight_refusal_of_one_contact_denies_it() -> None:
    reply = read_answer(answer(406, PREFLIGHT), (ONE,)).reply

    assert reply.findings[ONE].verdict is Verdict.DENIED
    assert reply.findings[ONE].message == "<id> has deals"


@pytest.mark.parametrize("status", [404, 405])
def test_a_wrong_path_is_named_with_the_other_form(status: int) -> None:
    with pytest.raises(Hopeless, match=r"delete_path.*/contact/.*/contacts/") as failure:
        read_answer(answer(status, b"Not Found"), (ONE, TWO))

    assert failure.value.closes_target


@pytest.mark.parametrize("stranger", [STRANGER, ONE.upper(), 7.5, None, ""])
def test_a_stranger_leaves_the_unnamed_open_and_changes_nothing_for_the_named(
    stranger: Any,
) -> None:
    told = read_answer(answer(200, done(TWO, stranger)), (ONE, TWO))

    assert set(told.reply.findings) == {TWO}
    assert not told.to_look_at
    assert [warned.breach for warned in told.reply.warnings] == [Breach.STRANGER]


@pytest.mark.parametrize("ident", [STRANGER, ONE.upper(), None, [ONE]])
def test_a_404_of_a_stranger_or_of_nobody_settles_nobody(ident: Any) -> None:
    told = read_answer(answer(404, {**ABSENT_404, "object_id": ident}), (ONE, TWO))

    assert not told.reply.findings
    assert not told.to_look_at
    assert told.reply.warnings


def test_what_an_error_does_not_name_is_sent_again_and_not_denied() -> None:
    told = read_answer(answer(500, {**done(ONE), "code": 107}), (ONE, TWO))

    assert told.to_look_at == {ONE}
    assert isinstance(told.reply.error, Transient)
    assert told.reply.error.may_have_run


def test_a_fault_that_tells_how_long_is_waited_out() -> None:
    raw = json.dumps({"message": "m", "code": 107}).encode()

    with pytest.raises(Transient) as failure:
        read_answer(Answer(500, {"retry-after": "7"}, raw, "http://crm"), (ONE,))

    assert failure.value.wait == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("status", "body", "seen"),
    [
        (200, {"resources": [{"id": ONE}]}, {ONE: Presence.THERE, TWO: Presence.GONE}),
        (200, {"resources": []}, {ONE: Presence.GONE, TWO: Presence.GONE}),
        (200, {"resources": [{"id": ONE}, {"id": STRANGER}]}, {ONE: Presence.THERE}),
        (200, {"resources": [{"id": ONE}, {}]}, {ONE: Presence.THERE}),
        (200, {"resources": [{"id": ONE}], "meta": {"pages": 2}}, {ONE: Presence.THERE}),
        (200, {"resources": [{"id": ONE}], "meta": {"total": 9}}, {ONE: Presence.THERE}),
        (200, {"resources": [{"id": ONE}], "meta": {"pages": "2"}}, {ONE: Presence.THERE}),
        (200, {"resources": [{"id": ONE}], "meta": {"total": "9"}}, {ONE: Presence.THERE}),
        (200, {"resources": [ONE]}, {ONE: Presence.THERE, TWO: Presence.GONE}),
        (404, ABSENT_404, {ONE: Presence.GONE}),
    ],
)
def test_a_probe_calls_gone_only_what_a_whole_answer_leaves_out(
    status: int, body: Any, seen: dict[str, Presence]
) -> None:
    assert read_probe(answer(status, body), (ONE, TWO)) == seen


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", Transient),
        (200, {"resources": {}}, Transient),
        (404, b"", Hopeless),
        (404, {**ABSENT_404, "object_id": STRANGER}, Hopeless),
        (500, {"resources": []}, Transient),
    ],
)
def test_a_probe_that_shows_nothing_calls_nothing_gone(
    status: int, body: Any, kind: type[CallFailed]
) -> None:
    with pytest.raises(kind):
        read_probe(answer(status, body), (ONE, TWO))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"token": {"env": "T"}, "oauth": OAUTH},
        {"token": "literal"},
        {"oauth": {**OAUTH, "refresh_token": "literal"}},
        {"oauth": {"client_id": "x"}},
        {"token": {"env": "T"}, "delete_path": "/api/v1/contact"},
        {"token": {"env": "T"}, "delete_path": "/api/v1/contacts/list?x={ids}"},
        {"token": {"env": "T"}, "delete_path": "/api/{ids}/x"},
        {"token": {"env": "T"}, "probe": "search"},
    ],
)
def test_a_table_that_cannot_work_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Nimble.Settings(adapter="nimble", base_url="http://crm", **given)


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, "CRM_KEY": "key"}.items():
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
def adapter(server: PracticeServer) -> Iterator[Nimble]:
    adapter = make(server.base_url, oauth=OAUTH)
    yield adapter
    adapter.close()


def make(base_url: str, *, pace: Any = None, **more: Any) -> Nimble:
    given = {"adapter": "nimble", "base_url": base_url, **(more or {"token": {"env": "CRM_KEY"}})}
    return Nimble(Nimble.Settings.model_validate(given), pace=pace or FreePace())


def delete(adapter: Nimble, *ids: str) -> Reply:
    reply = adapter.delete(by_key(adapter, ids), until=soon())
    assert_sound(reply, ids)
    return reply


def test_what_the_vendor_keeps_without_a_word_is_denied(adapter: Nimble, backend: Backend) -> None:
    backend.kept = {ONE}

    reply = delete(adapter, ONE, TWO, "f" * 24)

    assert {key: (found.verdict, found.evidence) for key, found in reply.findings.items()} == {
        ONE: (Verdict.DENIED, Evidence.PROBE),
        TWO: (Verdict.DELETED, Evidence.ITEM),
        "f" * 24: (Verdict.ABSENT, Evidence.PROBE),
    }


def test_a_missing_contact_that_refuses_the_others_leaves_them_unsent(
    adapter: Nimble, backend: Backend
) -> None:
    backend.refuses_missing = True
    gone = ["e" * 24, "f" * 24]

    reply = delete(adapter, ONE, *gone, TWO)

    assert gone_keys(reply) == set(gone)
    assert reply.unsent == {ONE, TWO}
    assert gone_keys(delete(adapter, ONE, TWO)) == {ONE, TWO}


class Closing:
    """Lets two requests pass, a login and a deletion, and no look."""

    wait = timedelta(seconds=9)

    def __init__(self) -> None:
        self.entered = 0

    def enter(self, until: Deadline) -> None:
        self.entered += 1
        if self.entered > 2:
            raise Paced("not now", wait=self.wait)


def test_a_look_that_fails_leaves_the_unnamed_in_doubt(server: PracticeServer) -> None:
    adapter = make(server.base_url, pace=Closing(), oauth=OAUTH)

    reply = delete(adapter, ONE, "f" * 24)

    assert set(reply.findings) == {ONE}
    assert isinstance(reply.error, Transient)
    assert not isinstance(reply.error, Paced)
    assert (reply.error.wait, reply.error.may_have_run) == (Closing.wait, True)
    adapter.close()


LONG = [f"{number:064}" for number in range(300)]


def test_a_call_too_long_for_one_address_is_parted() -> None:
    with Wire(ok(json.dumps(done(*LONG)).encode()), stays_open=True) as wire:
        adapter = make(wire.url)

        reply = delete(adapter, *LONG)

        assert gone_keys(reply) == set(LONG)
        assert len(wire.requests) == 3
        for request in wire.requests:
            line = request.split(b"\r\n")[0].decode()
            assert len(wire.url + line.split()[1]) <= LONGEST_ADDRESS
        adapter.close()


def test_after_a_part_that_failed_nothing_more_is_sent(
    adapter: Nimble, backend: Backend, server: PracticeServer
) -> None:
    backend.remaining.update(LONG)
    backend.told({"misbehave": "error@2"})

    reply = delete(adapter, *LONG)

    assert isinstance(reply.error, Transient)
    assert backend.calls == 2
    assert gone_keys(reply) == set(backend.deleted)
    assert len(gone_keys(reply)) + len(reply.unsent) < len(LONG)
    assert not backend.asked.keys() & reply.unsent


@given(st.text(max_size=12) | st.integers() | st.sampled_from(BAD[3:]))
def test_an_id_is_refused_or_carried_intact(item: Any) -> None:
    adapter = make("http://crm")
    try:
        key = adapter.key(item)
    except BadItem:
        return
    assert key == str(item)
    assert key.isascii()
    assert not set(key) & set(",/?#%. \r\n")


def test_a_token_near_its_end_is_renewed_before_it_is_refused(
    adapter: Nimble, backend: Backend
) -> None:
    backend.expires_in = 0.000_001

    delete(adapter, ONE)
    delete(adapter, TWO)

    assert (backend.logins, backend.calls) == (2, 2)


def test_a_bad_token_told_as_403_is_renewed_once() -> None:
    body = json.dumps({"message": "Can't authenticate request"}).encode()
    with Wire(ok(body, status="403 Forbidden"), stays_open=True) as wire:
        adapter = make(wire.url)

        with pytest.raises(Hopeless, match="token or oauth") as failure:
            delete(adapter, ONE)

        assert failure.value.closes_target
        assert len(wire.requests) == 2
        assert b"authorization: Bearer key" in wire.requests[0]
        adapter.close()


def test_a_renewed_consent_is_used_for_the_next_login(adapter: Nimble, backend: Backend) -> None:
    backend.renews_consent = True

    for ident in (ONE, TWO, STRANGER):
        backend.expire()
        assert gone_keys(delete(adapter, ident)) == {ident}

    assert backend.logins == 3


def test_a_check_that_the_vendor_refuses_is_no_bad_query() -> None:
    body = json.dumps({"message": "per_page is not taken", "code": 245}).encode()
    with Wire(ok(body, status="409 Conflict")) as wire:
        adapter = make(wire.url)

        with pytest.raises(Refused, match="per_page") as failure:
            adapter.check(until=soon())

        assert not failure.value.may_have_run
        adapter.close()


def test_a_login_that_is_refused_is_hopeless_and_named(
    server: PracticeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_CONSENT", "withdrawn")
    adapter = make(server.base_url, oauth=OAUTH)

    with pytest.raises(Hopeless, match="change oauth") as failure:
        delete(adapter, ONE)

    assert (failure.value.closes_target, failure.value.may_have_run) == (True, False)
    assert server.practice.requests == 1
    adapter.close()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([ONE, ONE.upper(), TWO, STRANGER, "ok", "contact", 107, 108, 245]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.fixed_dictionaries({"status": inner, "data": st.fixed_dictionaries({"ids": inner})})
        | st.fixed_dictionaries({}, optional={"status": inner, "data": inner, "errors": inner})
        | st.fixed_dictionaries({}, optional={"object_type": inner, "object_id": inner})
        | st.fixed_dictionaries({"message": inner, "code": inner})
        | st.fixed_dictionaries({"resources": inner}, optional={"meta": inner, "id": inner})
    ),
    max_leaves=12,
)


def names(document: Any, key: str) -> bool:
    """Whether a document says of an id that it was deleted, or that it is not there."""
    match document:
        case {"data": {"ids": [*ids]}} if key in ids:
            return True
    return isinstance(document, dict) and document.get("object_id") == key


@given(status=st.integers(200, 599), document=JSON)
@settings(max_examples=100, deadline=None)
def test_whatever_document_comes_nothing_is_claimed_that_it_does_not_say(
    status: int, document: Any
) -> None:
    try:
        told = read_answer(answer(status, document), (ONE, TWO))
    except (Transient, Refused, Hopeless):
        return
    assert_sound(told.reply, (ONE, TWO))
    assert told.to_look_at.isdisjoint(told.reply.findings)
    for key in gone_keys(told.reply):
        assert names(document, key)


@given(status=st.sampled_from([200, 404]) | st.integers(200, 599), document=JSON)
@settings(max_examples=100, deadline=None)
def test_whatever_a_look_shows_gone_is_what_a_list_leaves_out_or_a_404_names(
    status: int, document: Any
) -> None:
    try:
        seen = read_probe(answer(status, document), (ONE, TWO))
    except (Transient, Refused, Hopeless):
        return
    assert seen.keys() <= {ONE, TWO}
    for key in (key for key, presence in seen.items() if presence is Presence.GONE):
        match status, document:
            case 200, {"resources": [*rows]}:
                assert key not in rows
                assert {"id": key} not in rows
            case 404, {"object_id": ident}:
                assert ident == key
            case _:
                pytest.fail("nothing shows that it is gone")


class Saying(Backend):
    """Deletes nothing, answers a deletion with `said`, and shows what is there."""

    said = Said(200)

    def delete(self, asked: Asked, fault: Fault | None) -> Said:
        return self.said


def test_whatever_a_deletion_answers_what_is_there_is_gone_only_where_it_is_named() -> None:
    backend = Saying([ONE])
    with PracticeServer(backend) as server:
        adapter = make(server.base_url, oauth=OAUTH)

        @given(status=st.integers(200, 599), document=JSON)
        @settings(max_examples=100, deadline=None)
        def answer_with(status: int, document: Any) -> None:
            backend.said = Said(status, json.dumps(document).encode())
            try:
                reply = delete(adapter, ONE, TWO)
            except (Transient, Refused, Hopeless):
                return
            assert ONE not in gone_keys(reply) or names(document, ONE)
            assert not (reply.unsent - {ONE})

        answer_with()
        adapter.close()


def test_whatever_bytes_come_nothing_but_the_three_errors_is_raised() -> None:
    with Wire() as wire:
        adapter = make(wire.url)

        @given(
            st.binary(max_size=300) | JSON.map(lambda document: ok(json.dumps(document).encode()))
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
