"""GPTBots: the table of codes, and whatever else may be answered."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_adapters.answer import Answer
from api_adapters.base import Adapter, Breach, Evidence, Presence, Reply, Verdict
from api_adapters.contract import FreePace, assert_sound, by_key, gone_keys, soon
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient
from api_adapters.fakes.wire import Wire, ok
from api_adapters.gptbots import Gptbots
from api_adapters.gptbots_answers import read_answer
from api_adapters.gptbots_pages import read_page

SENT = {"1": "1", "2": "2"}


def answer(status: int, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, raw, "https://gptbots delete records")


def coded(code: Any, message: str = "record 1 is bad") -> dict[str, Any]:
    return {"code": code, "message": message}


# Rule 1: success is a 2xx, an object and code 0.
@pytest.mark.parametrize("body", [coded(0), coded("0"), {"code": 0}, {**coded(0), "error": None}])
@pytest.mark.parametrize("status", [200, 201])
def test_success_is_taken_for_all_and_proves_nothing_of_one(status: int, body: Any) -> None:
    reply = read_answer(answer(status, body), SENT)

    assert {(key, f.verdict, f.evidence) for key, f in reply.findings.items()} == {
        (key, Verdict.ACCEPTED, Evidence.BATCH) for key in SENT
    }


# Rules 1, 2 and 4: a line a code, in both shapes and whatever the status.
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
@pytest.mark.parametrize(
    ("code", "kind", "may_have_run", "waits", "closes"),
    [
        (40000, Refused, True, False, None),
        (50000, Transient, True, False, None),
        (40008, Transient, False, True, None),
        (40127, Hopeless, False, None, True),
        (403106, Hopeless, False, None, True),
        (403131, Hopeless, False, None, False),
    ],
)
def test_the_table_of_codes(
    status: int,
    code: int,
    kind: type[CallFailed],
    waits: bool | None,  # noqa: FBT001 - a column of the table
    closes: bool | None,  # noqa: FBT001
    *,
    may_have_run: bool,
) -> None:
    for body in (
        coded(code),
        coded(str(code)),
        {"error": coded(code)},
        {"error": coded(str(code))},
    ):
        with pytest.raises(kind) as failure:
            read_answer(answer(status, body), SENT)

        assert (failure.value.may_have_run, failure.value.code) == (may_have_run, str(code))
        assert getattr(failure.value, "closes_target", None) is closes
        assert bool(getattr(failure.value, "wait", None)) is bool(waits)
        assert "bad" not in str(failure.value)


@pytest.mark.parametrize(
    ("status", "body", "kind", "may_have_run", "code"),
    [
        (200, coded(49999), Transient, True, "49999"),
        (200, coded(-1), Transient, True, "-1"),
        (200, coded(None), Transient, True, "200"),
        (200, coded(code=False), Transient, True, "200"),
        (200, coded(0.0), Transient, True, "200"),
        (200, {"error": {"code": 0}}, Transient, True, "200"),
        (200, {**coded(0), "error": {"code": 50000}}, Transient, True, "50000"),
        (200, {**coded(0), "error": "no"}, Transient, True, "200"),
        (200, {"message": "OK"}, Transient, True, "200"),
        (200, [], Transient, True, "200"),
        (200, 0, Transient, True, "200"),
        (200, b"", Transient, True, "200"),
        (200, b'{"code": 0, "mess', Transient, True, "200"),
        (302, coded(0), Transient, True, "302"),
        (404, coded(0), Transient, True, "404"),
        (500, coded(0), Transient, True, "500"),
        (502, b"<html>", Transient, True, "502"),
        (429, b"", Transient, False, "429"),
        (429, coded(50000), Transient, False, "429"),
        # Taken and too much at once: nobody knows.
        (429, coded(0), Transient, True, "429"),
        (401, b"", Hopeless, False, "401"),
        (403, b"", Hopeless, True, "403"),
        (404, b"", Hopeless, False, "404"),
        (404, coded(404), Hopeless, False, "404"),
        (404, b'{"code": 0, "mess', Transient, True, "404"),
        (413, b"", Refused, True, "413"),
    ],
)
def test_the_table_of_other_failures(
    status: int, body: Any, kind: type[CallFailed], *, may_have_run: bool, code: str
) -> None:
    with pytest.raises(kind) as failure:
        read_answer(answer(status, body), SENT)

    assert (failure.value.may_have_run, failure.value.code) == (may_have_run, code)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 5),
        ({"retry_after": "7"}, 7),
        ({"x_ratelimit_reset": "9"}, 9),
        ({"retry_after": "7", "x_ratelimit_reset": "9"}, 7),
        ({"x_ratelimit_reset": "1000000000"}, 0),
        ({"x_ratelimit_reset": "86400"}, 3600),
        ({"x_ratelimit_reset": "9" * 18}, 3600),
        ({"x_ratelimit_reset": "soon"}, 5),
    ],
)
def test_the_wait_is_told_by_either_header(headers: dict[str, str], seconds: float) -> None:
    with pytest.raises(Transient) as failure:
        read_answer(answer(200, coded(40008), **headers), SENT)

    assert failure.value.wait is not None
    assert abs(failure.value.wait - timedelta(seconds=seconds)) < timedelta(seconds=1)


def test_a_moment_is_measured_by_the_backends_own_clock() -> None:
    date, reset = "Thu, 01 Jan 2026 12:00:00 GMT", "1767268809"

    with pytest.raises(Transient) as failure:
        read_answer(answer(200, coded(40008), date=date, x_ratelimit_reset=reset), SENT)

    assert failure.value.wait == timedelta(seconds=9)


@pytest.mark.parametrize(("status", "body"), [(500, coded(50000)), (200, coded(50000)), (503, b"")])
def test_a_fault_that_tells_how_long_is_waited_out(status: int, body: Any) -> None:
    with pytest.raises(Transient) as failure:
        read_answer(answer(status, body, retry_after="7"), SENT)

    assert (failure.value.wait, failure.value.may_have_run) == (timedelta(seconds=7), True)


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_moment_since_1970_is_told_by_the_reset_header(unit: int) -> None:
    moment = str(int(time.time() + 100) * unit)

    with pytest.raises(Transient) as failure:
        read_answer(answer(200, coded(40008), x_ratelimit_reset=moment), SENT)

    assert failure.value.wait is not None
    assert abs(failure.value.wait - timedelta(seconds=100)) < timedelta(seconds=30)


# Rule 3: details by record, should a later version tell them.
@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ({"success": True}, Verdict.DELETED),
        ({"success": True, "code": 0}, Verdict.DELETED),
        ({"code": 0}, Verdict.ACCEPTED),
        ({"success": False}, Verdict.FAILED),
        ({"code": 40400}, Verdict.FAILED),
        ({"code": "40000"}, Verdict.REJECTED),
        ({"code": 403131}, Verdict.DENIED),
        ({"code": 50000}, Verdict.UNKNOWN),
        ({"success": True, "code": 40000}, Verdict.UNKNOWN),
        ({"success": False, "code": 0}, Verdict.UNKNOWN),
        ({}, Verdict.ACCEPTED),
        ({"success": "true"}, Verdict.UNKNOWN),
        ({"error": "locked"}, Verdict.UNKNOWN),
    ],
)
@pytest.mark.parametrize("ident", ["1", 1])
def test_details_by_record_are_used(ident: Any, row: dict[str, Any], verdict: Verdict) -> None:
    body = {**coded(0), "data": [{"record_id": ident, **row}]}

    reply = read_answer(answer(200, body), SENT)

    assert reply.findings["1"].verdict is verdict
    assert reply.findings["2"].verdict is Verdict.ACCEPTED


def test_a_stranger_among_the_details_leaves_the_unnamed_open() -> None:
    rows = [{"record_id": "1", "success": True}, {"record_id": "9", "success": True}]

    reply = read_answer(answer(200, {**coded(0), "data": {"results": rows}}), SENT)

    assert gone_keys(reply) == {"1"}
    assert "2" not in reply.findings
    assert [warned.breach for warned in reply.warnings] == [Breach.STRANGER]


PAGE = {
    "table_info": {"fields": [{"name": "sku", "type": "text", "unique": True}]},
    "records": [{"id": 541278541278541278, "value": {"sku": "A-1"}}],
    "total_count": "1",
}


@pytest.mark.parametrize("body", [PAGE, {"code": 0, "data": PAGE}, {**PAGE, "code": "0"}])
def test_a_page_is_read_bare_or_wrapped_and_ids_stay_exact(body: Any) -> None:
    page = read_page(answer(200, body))

    assert [record.id for record in page.records] == ["541278541278541278"]
    assert page.is_unique("sku")
    assert not page.is_unique("id")


@pytest.mark.parametrize(
    "body",
    [
        {**PAGE, "total_count": None},
        {**PAGE, "total_count": -1},
        {**PAGE, "records": [{"value": {}}]},
        {**PAGE, "records": [{"id": ""}]},
        {**PAGE, "records": [{"id": 1.5}]},
        {**PAGE, "table_info": None},
        {**PAGE, "code": 50000},
        {**PAGE, "error": {"code": 1}},
        {"code": 50000, "data": PAGE},
        {"code": 0, "data": [PAGE]},
        {"data": PAGE},
    ],
)
def test_a_page_that_is_none_is_a_passing_fault(body: Any) -> None:
    with pytest.raises(Transient):
        read_page(answer(200, body))


def make(base_url: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Adapter:
    monkeypatch.setenv("GPTBOTS_KEY", "key")
    given = {"adapter": "gptbots", "token": {"env": "GPTBOTS_KEY"}, "table_id": "t", **more}
    read = Gptbots.Settings.model_validate({**given, "base_url": base_url})
    return Gptbots(read, pace=FreePace())


def one_page(**changes: Any) -> bytes:
    return ok(json.dumps({**PAGE, "total_count": 1, **changes}).encode())


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"records": [], "total_count": 0}, Verdict.ABSENT),
        ({"records": [], "total_count": 1}, Verdict.FAILED),
        ({"total_count": 2}, Verdict.FAILED),
        ({"records": [{"id": "5", "value": {"sku": 5.5}}]}, Verdict.FAILED),
        ({"records": [{"id": "5", "value": {"sku": "A-2"}}]}, Verdict.FAILED),
        ({"records": [{"id": "5", "value": {"sku": True}}]}, Verdict.FAILED),
        ({"table_info": {"fields": [{"name": "sku", "unique": "true"}]}}, Verdict.REJECTED),
        ({"table_info": {"fields": []}}, Verdict.REJECTED),
    ],
)
def test_a_filter_is_never_turned_into_another_record(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], verdict: Verdict
) -> None:
    with Wire(one_page(**changes)) as wire:
        adapter = make(wire.url, monkeypatch)

        reply = adapter.delete(by_key(adapter, [{"filter": {"sku": "A-1"}}]), until=soon())

        assert [found.verdict for found in reply.findings.values()] == [verdict]
        assert len(wire.requests) == 1
        adapter.close()


@pytest.mark.parametrize("held", [5, 5.0, "5"])
def test_a_number_is_the_number_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, held: Any
) -> None:
    page = one_page(records=[{"id": "7", "value": {"sku": held}}])
    with Wire(page, stays_open=True) as wire:
        adapter = make(wire.url, monkeypatch)

        # The answer to the deletion is the page as well, and proves nothing.
        with pytest.raises(Transient):
            adapter.delete(by_key(adapter, [{"filter": {"sku": 5}}]), until=soon())

        assert b'"delete_data":[{"record_id":"7"}]' in wire.requests[-1]
        adapter.close()


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({}, Presence.THERE),
        ({"records": [], "total_count": 0}, Presence.GONE),
        ({"total_count": 0}, Presence.THERE),
        ({"records": [], "total_count": 1}, Presence.THERE),
        ({"records": [], "total_count": 0, "table_info": {"fields": []}}, None),
    ],
)
def test_a_record_that_is_shown_or_counted_is_there(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], seen: Presence | None
) -> None:
    with Wire(one_page(**changes)) as wire:
        adapter = make(wire.url, monkeypatch)
        sent = by_key(adapter, [{"filter": {"sku": "A-1"}}])

        assert adapter.probe(sent, until=soon()) == dict.fromkeys(sent if seen else (), seen)
        adapter.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["1", "2", 0, 40000, 40008, "0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries({"record_id": inner, "success": inner}, optional={"code": inner})
        | st.fixed_dictionaries({"code": inner | st.just(0)}, optional={"data": inner})
        | st.fixed_dictionaries({}, optional={"error": inner, "code": inner})
        | st.fixed_dictionaries({"records": inner, "total_count": inner, "table_info": inner})
    ),
    max_leaves=10,
)  # fmt: skip


@given(status=st.integers(200, 599), document=JSON)
@settings(max_examples=100, deadline=None)
def test_whatever_document_comes_nothing_is_claimed_that_it_does_not_say(
    status: int, document: Any
) -> None:
    try:
        reply = read_answer(answer(status, document), SENT)
    except (Transient, Refused, Hopeless):
        return
    assert_sound(reply, SENT)
    assert str(document["code"]) == "0"
    if gone_keys(reply):
        assert '"success": true' in json.dumps(document)


STATUS = st.sampled_from([200, 200, 200, 302, 400, 401, 403, 404, 429, 500, 503])
RECORDS = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", "2", 1, 2])},
    optional={"value": st.sampled_from([None, {}, {"sku": "A-1"}, {"sku": "B"}])},
)
BARE = st.fixed_dictionaries(
    {
        "table_info": st.sampled_from([True, True, False, "true"]).map(
            lambda unique: {"fields": [{"name": "sku", "unique": unique}]}
        ),
        "records": st.lists(RECORDS, max_size=2),
        "total_count": st.sampled_from([0, "0", 1, 2, -1, None, 1.0]),
    }
)
PAGES = BARE | BARE.map(lambda page: {"code": 0, "data": page})


def written(status: int, document: Any) -> bytes:
    return ok(json.dumps(document).encode(), status=f"{status} So")


def _shows_nothing(reply: bytes) -> bool:
    return b'"records": []' in reply and (
        b'"total_count": 0' in reply or b'"total_count": "0"' in reply
    )


def test_whatever_bytes_come_nothing_but_the_three_errors_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Wire() as wire:
        adapter = make(wire.url, monkeypatch, verify="filters")

        @given(st.binary(max_size=300) | st.builds(written, STATUS, JSON | PAGES))
        @settings(max_examples=100, deadline=None)
        def answer_with(reply: bytes) -> None:
            wire.answer = reply
            sent = by_key(adapter, ["1", {"filter": {"sku": "A-1"}}])
            for act in (adapter.delete, adapter.probe):
                try:
                    told = act(sent, until=soon())
                except (Transient, Refused, Hopeless):
                    continue
                if isinstance(told, Reply):
                    assert_sound(told, sent)
                    gone = gone_keys(told)
                else:
                    gone = {key for key, seen in told.items() if seen is Presence.GONE}
                # The same page comes before and after: what it shows is there.
                assert not gone or b'"success": true' in reply or _shows_nothing(reply)

        answer_with()
        adapter.close()
