"""BAS-IP: the contract, the table of verdicts, and whatever a server may answer."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api_adapters.answer import Answer
from api_adapters.bas_ip import BasIp, read_answer
from api_adapters.base import Adapter, Breach, Evidence, Reply, Verdict
from api_adapters.contract import FreePace, assert_sound, by_key, gone_keys, soon
from api_adapters.contract_http import HttpAdapterContract
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient
from api_adapters.fakes.bas_ip import PASSWORD, USERNAME, Backend
from api_adapters.fakes.base import practice_ids
from api_adapters.fakes.server import PracticeServer
from api_adapters.fakes.wire import Wire, ok

UPPER = "91C615E3-1040-4815-8ECB-039A18B756B5"
ONE, TWO, STRANGER = practice_ids(3)
LOGIN = {"username": USERNAME, "password": {"env": "MONITOR_PASSWORD"}}


class TestBasIp(HttpAdapterContract):
    adapter_type = BasIp
    backend_type = Backend
    settings: ClassVar = {"adapter": "bas_ip", **LOGIN}
    environment: ClassVar = {"MONITOR_PASSWORD": PASSWORD}
    hidden = ("practice-token-0-1", hashlib.md5(PASSWORD.encode()).hexdigest(), "Bearer")
    bad_items = (
        7,
        {"link_id": UPPER},
        "91c615e3",
        UPPER.replace("-", ""),
        f"{{{UPPER}}}",
        f"urn:uuid:{UPPER}",
        f" {UPPER}",
        f"{UPPER}\n",
        UPPER.replace("9", "\uff19"),
    )
    same_items = ((UPPER, UPPER.lower()),)


def read(status: int, body: Any, sent: tuple[str, ...] = (ONE, TWO)) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(Answer(status, {}, raw, "http://monitor delete contacts"), sent)


def row(*, success: Any, info: Any, link_id: Any = ONE) -> dict[str, Any]:
    return {"link_id": link_id, "success": success, "extended_info": info}


# One line per row of the vendor's table, then what a firmware may make of it.
@pytest.mark.parametrize(
    ("success", "info", "verdict", "breach"),
    [
        (True, "deleted", Verdict.DELETED, None),
        (True, None, Verdict.DELETED, Breach.UNHEARD),
        (True, "archived", Verdict.DELETED, Breach.UNHEARD),
        (False, "entity_not_found", Verdict.ABSENT, None),
        (False, "not_found", Verdict.ABSENT, None),
        (True, "entity_not_found", Verdict.ABSENT, Breach.CONTRADICTION),
        (True, "not_found", Verdict.ABSENT, Breach.CONTRADICTION),
        (False, "deleted", Verdict.UNKNOWN, Breach.CONTRADICTION),
        (True, "created", Verdict.UNKNOWN, Breach.CONTRADICTION),
        (False, "created", Verdict.UNKNOWN, Breach.CONTRADICTION),
        (True, "updated", Verdict.UNKNOWN, Breach.CONTRADICTION),
        (False, "updated", Verdict.UNKNOWN, Breach.CONTRADICTION),
        (False, "invalid_entity_data", Verdict.REJECTED, None),
        (False, "locked", Verdict.FAILED, None),
        (False, None, Verdict.FAILED, None),
        (None, "deleted", Verdict.UNKNOWN, Breach.UNHEARD),
        ("true", "deleted", Verdict.UNKNOWN, Breach.UNHEARD),
        (1, "deleted", Verdict.UNKNOWN, Breach.UNHEARD),
        (True, 5, Verdict.DELETED, Breach.UNHEARD),
    ],
)
def test_the_table_of_verdicts(
    success: Any, info: Any, verdict: Verdict, breach: Breach | None
) -> None:
    reply = read(
        200,
        {
            "result": [
                row(success=success, info=info),
                row(success=True, info="deleted", link_id=TWO),
            ]
        },
    )

    assert reply.findings[ONE].verdict is verdict
    assert reply.findings[TWO].verdict is Verdict.DELETED
    assert [warned.breach for warned in reply.warnings] == ([breach] if breach else [])


def test_a_missing_flag_leaves_the_item_open() -> None:
    reply = read(200, {"result": [{"link_id": ONE, "extended_info": "deleted"}]})

    assert reply.findings[ONE].verdict is Verdict.UNKNOWN
    assert reply.findings[ONE].evidence is Evidence.NONE


def test_one_item_told_twice_alike_is_told_once() -> None:
    reply = read(
        200,
        {
            "result": [
                row(success=True, info="deleted"),
                row(success=True, info="deleted", link_id=ONE.upper()),
            ]
        },
    )

    assert reply.findings[ONE].verdict is Verdict.DELETED
    assert not reply.warnings


def test_one_item_told_twice_differently_stays_open() -> None:
    reply = read(
        200, {"result": [row(success=True, info="deleted"), row(success=False, info="not_found")]}
    )

    assert reply.findings[ONE].verdict is Verdict.UNKNOWN
    assert [warned.breach for warned in reply.warnings] == [Breach.CONTRADICTION]


@pytest.mark.parametrize("link_id", [None, 7, "", STRANGER])
def test_a_row_that_names_nobody_sent_changes_nothing_for_the_named(link_id: Any) -> None:
    reply = read(
        200,
        {
            "result": [
                row(success=True, info="deleted"),
                row(success=True, info="deleted", link_id=link_id),
            ]
        },
    )

    assert {key: finding.verdict for key, finding in reply.findings.items()} == {
        ONE: Verdict.DELETED
    }
    assert [warned.breach for warned in reply.warnings] == [Breach.STRANGER]


def test_results_count_whatever_the_status() -> None:
    reply = read(
        400,
        {
            "result": [
                row(success=True, info="deleted"),
                row(success=False, info="entity_not_found", link_id=TWO),
            ]
        },
    )

    assert gone_keys(reply) == {ONE, TWO}


def error(code: Any, **data: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": "Data\r\nvalidation error", "data": data}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "may_have_run", "code"),
    [
        (400, error("not_valid", param="must be a string"), Refused, True, "not_valid"),
        (400, {"error": "Wrong JSON body"}, Refused, True, "400"),
        (400, error("new_code"), Refused, True, "new_code"),
        (400, error("permission_denied"), Hopeless, False, "permission_denied"),
        (200, error("permission_denied"), Hopeless, False, "permission_denied"),
        (500, error("permission_denied"), Hopeless, False, "permission_denied"),
        (404, error("permission_denied"), Hopeless, False, "permission_denied"),
        (200, error("not_valid"), Refused, True, "not_valid"),
        (403, b"", Hopeless, True, "403"),
        (401, error("not_valid"), Hopeless, False, "401"),
        (401, {"result": [row(success=True, info="deleted")]}, Hopeless, False, "401"),
        (400, error("invalid_authentication"), Hopeless, False, "400"),
        (400, error("invalid_authentification"), Hopeless, False, "400"),
        (200, {"error": "Log In"}, Hopeless, False, "200"),
        (500, error("system_error"), Transient, True, "system_error"),
        (200, error("system_error"), Transient, True, "system_error"),
        (200, {"result": None}, Transient, True, "200"),
        (200, {"result": {ONE: True}}, Transient, True, "200"),
        (200, {}, Transient, True, "200"),
        (200, [], Transient, True, "200"),
        (200, b"", Transient, True, "200"),
        (200, b'{"result": [', Transient, True, "200"),
        (204, b"", Transient, True, "204"),
        (302, {"result": [row(success=True, info="deleted")]}, Transient, True, "302"),
        (429, b"", Transient, False, "429"),
        (502, b"<html>", Transient, True, "502"),
        (404, b"Not Found", Hopeless, False, "404"),
        (404, {"error": "Not Found"}, Hopeless, False, "404"),
        (405, b"", Hopeless, False, "405"),
        (415, {}, Hopeless, False, "415"),
        (501, b"", Hopeless, False, "501"),
    ],
)
def test_the_table_of_failures(
    status: int, body: Any, kind: type[CallFailed], *, may_have_run: bool, code: str
) -> None:
    with pytest.raises(kind) as failure:
        read(status, body)

    assert (failure.value.may_have_run, failure.value.code) == (may_have_run, code)
    assert str(failure.value).isprintable()


@pytest.mark.parametrize("body", [b"<html>", error("system_error")])
def test_a_fault_that_tells_how_long_is_waited_out(body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    with pytest.raises(Transient) as failure:
        read_answer(Answer(503, {"retry-after": "7"}, raw, "http://monitor"), (ONE,))

    assert failure.value.wait == timedelta(seconds=7)
    assert failure.value.may_have_run


def test_a_wrong_method_or_path_is_named() -> None:
    with pytest.raises(Hopeless, match="delete_method or delete_path") as failure:
        read(405, b"Method Not Allowed")

    assert failure.value.closes_target


def test_ids_stay_out_of_messages() -> None:
    with pytest.raises(Refused) as failure:
        read(400, error("not_valid", link_ids=f"{ONE.upper()} is locked"))

    assert ONE not in str(failure.value).lower()
    assert "is locked" in str(failure.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"username": "admin"},
        {"password": {"env": "P"}},
        {**LOGIN, "token": {"env": "T"}},
        {"token": {"env": "T"}, "username": "admin"},
        {"token": "literal"},
        {**LOGIN, "delete_method": "GET"},
        {**LOGIN, "delete_path": "contacts"},
        {**LOGIN, "delete_path": "/contacts\r\nX: y"},
        {**LOGIN, "delete_path": "/contacts?all=1"},
    ],
)
def test_a_table_that_cannot_work_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BasIp.Settings(adapter="bas_ip", base_url="http://monitor/api/v1", **given)


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITOR_PASSWORD", PASSWORD)
    monkeypatch.setenv("MONITOR_TOKEN", "practice-token-0-1")


@pytest.fixture
def server(password: None) -> Iterator[PracticeServer]:
    with PracticeServer(Backend([ONE, TWO])) as server:
        yield server


def make(base_url: str, **more: Any) -> Adapter:
    given = {"adapter": "bas_ip", "base_url": base_url, **(more or LOGIN)}
    return BasIp(BasIp.Settings.model_validate(given), pace=FreePace())


def test_android_panels_are_reached_by_post(server: PracticeServer) -> None:
    adapter = make(
        server.base_url, **LOGIN, delete_method="POST", delete_path="/contacts/link/delete"
    )

    reply = adapter.delete(by_key(adapter, [ONE.upper()]), until=soon())

    assert reply.findings[ONE].verdict is Verdict.DELETED
    adapter.close()


def test_a_wrong_password_is_hopeless_after_one_login(
    server: PracticeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONITOR_PASSWORD", "wrong")
    adapter = make(server.base_url)

    with pytest.raises(Hopeless, match="username or password") as failure:
        adapter.delete(by_key(adapter, [ONE]), until=soon())

    assert failure.value.closes_target
    assert not failure.value.may_have_run
    assert server.practice.requests == 1
    adapter.close()


def test_a_token_that_stays_refused_is_hopeless_after_one_replay(server: PracticeServer) -> None:
    adapter = make(server.base_url, token={"env": "MONITOR_TOKEN"})

    with pytest.raises(Hopeless, match="username, password or token") as failure:
        adapter.delete(by_key(adapter, [ONE]), until=soon())

    assert failure.value.closes_target
    assert not failure.value.may_have_run
    assert server.practice.calls == 2
    adapter.close()


def test_a_given_token_is_used_without_a_login(server: PracticeServer) -> None:
    make_login = make(server.base_url)
    make_login.check(until=soon())
    adapter = make(server.base_url, token={"env": "MONITOR_TOKEN"})

    adapter.delete(by_key(adapter, [ONE]), until=soon())

    assert server.practice.logins == 1
    assert "whether the token is taken" in adapter.check(until=soon()).not_shown
    adapter.close()
    make_login.close()


def test_a_check_asks_below_api_and_not_below_v1(server: PracticeServer) -> None:
    adapter = make(server.base_url)

    assert adapter.check(until=soon()).shown == "the monitor answers and takes the login"

    assert server.practice.requests == 2
    adapter.close()


def test_an_empty_list_is_never_sent(server: PracticeServer) -> None:
    adapter = make(server.base_url)

    assert adapter.delete({}, until=soon()) == Reply()

    assert server.practice.requests == 0
    adapter.close()


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Broken"])
def test_a_login_that_is_quoted_in_its_answer_stays_out_of_messages(
    password: None, status: str
) -> None:
    digest = hashlib.md5(PASSWORD.encode()).hexdigest()
    echo = {"error": {"code": "system_error", "message": f"GET /login?password={digest}"}}
    with Wire(ok(json.dumps(echo).encode(), status=status)) as wire:
        adapter = make(f"{wire.url}/api/v1")

        with pytest.raises((Transient, Hopeless)) as failure:
            adapter.delete(by_key(adapter, [ONE]), until=soon())

        assert digest not in str(failure.value)
        assert not failure.value.may_have_run
        adapter.close()


def test_a_lost_login_did_nothing(password: None) -> None:
    with Wire(b"") as wire:
        adapter = make(f"{wire.url}/api/v1")

        with pytest.raises(Transient) as failure:
            adapter.delete(by_key(adapter, [ONE]), until=soon())

        assert not failure.value.may_have_run
        adapter.close()


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Login", "403 Forbidden"])
@pytest.mark.parametrize(
    "body", [b"", b'{"error": "Wrong JSON body"}', b'{"error": {"code": "x"}}']
)
def test_a_refused_login_is_hopeless_and_never_the_items_fault(
    password: None, status: str, body: bytes
) -> None:
    with Wire(ok(body, status=status)) as wire:
        adapter = make(f"{wire.url}/api/v1")

        with pytest.raises(Hopeless) as failure:
            adapter.delete(by_key(adapter, [ONE]), until=soon())

        assert failure.value.closes_target
        assert not failure.value.may_have_run
        adapter.close()


@pytest.mark.parametrize("token", ["", "a b\r\nc", "\u00e9", 7, None])
def test_a_login_without_a_usable_token_deletes_nothing(password: None, token: Any) -> None:
    with Wire(ok(json.dumps({"token": token}).encode())) as wire:
        adapter = make(f"{wire.url}/api/v1")

        with pytest.raises((Transient, Hopeless)) as failure:
            adapter.delete(by_key(adapter, [ONE]), until=soon())

        assert not failure.value.may_have_run
        assert len(wire.requests) == 1
        adapter.close()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([ONE, ONE.upper(), TWO, STRANGER, "deleted", "entity_not_found"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries(
            {}, optional={"link_id": inner, "success": inner, "extended_info": inner}
        )
        | st.fixed_dictionaries({}, optional={"result": inner, "error": inner})
        | st.fixed_dictionaries({"code": inner, "message": inner, "data": inner})
    ),
    max_leaves=12,
)


def claimed(document: Any, key: str) -> bool:
    """Whether the document holds a row that could mean that the key is gone."""
    rows = document.get("result") if isinstance(document, dict) else None
    return isinstance(rows, list) and any(
        isinstance(row, dict)
        and str(row.get("link_id")).lower() == key
        and (row.get("success") is True or "not_found" in str(row.get("extended_info")))
        for row in rows
    )


@given(status=st.integers(200, 599), document=JSON)
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
        assert claimed(document, key)


def test_whatever_bytes_come_nothing_but_the_three_errors_is_raised(password: None) -> None:
    with Wire() as wire:
        adapter = make(f"{wire.url}/api/v1", token={"env": "MONITOR_TOKEN"})

        @given(
            st.binary(max_size=300) | JSON.map(lambda document: ok(json.dumps(document).encode()))
        )
        @settings(max_examples=150, deadline=None)
        def answer_with(answer: bytes) -> None:
            wire.answer = answer
            try:
                reply = adapter.delete(by_key(adapter, [ONE, TWO]), until=soon())
            except (Transient, Refused, Hopeless):
                return
            assert_sound(reply, (ONE, TWO))

        answer_with()
        adapter.close()
