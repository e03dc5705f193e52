"""Amalto: the rules of its file one by one, and whatever else may be answered."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_adapters.amalto import Amalto
from api_adapters.amalto_answers import Name, read_answer, read_presence
from api_adapters.answer import Answer
from api_adapters.base import Breach, Evidence, Presence, Reply, Verdict
from api_adapters.contract import FreePace, assert_sound, gone_keys, soon
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient
from api_adapters.fakes.amalto import write_id
from api_adapters.fakes.wire import Wire, ok

ONE, TWO = write_id("acme", "One"), write_id("", "Two")
SENT = {ONE: Name("acme", "One"), TWO: Name("", "Two")}


def read(status: int, body: Any, sent: dict[str, Name] = SENT) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(Answer(status, {}, raw, "http://amalto delete items"), sent)


def result(errors: Any, processed: Any = 2) -> dict[str, Any]:
    return {"processed": processed, "errors": errors, "message": "delete everything"}


def flat(status: Any, **more: Any) -> dict[str, Any]:
    return {"status": status, "code": status, "developerMessage": "Not valid: acme.One.", **more}


# Rules 1 and 3: an item's verdict by its own status, whatever the answer's.
@pytest.mark.parametrize("http_status", [200, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize(
    ("entry", "verdict", "breach"),
    [
        ({"status": 404}, Verdict.ABSENT, None),
        ({"status": "404"}, Verdict.ABSENT, None),
        ({"status": 403}, Verdict.DENIED, None),
        ({"status": 409}, Verdict.DENIED, None),
        ({"status": 400, "conflictInformation": {}}, Verdict.DENIED, None),
        ({"status": 500, "conflictInformation": "by"}, Verdict.DENIED, None),
        ({"status": 400}, Verdict.REJECTED, None),
        ({"status": 500}, Verdict.UNKNOWN, None),
        ({"status": "503"}, Verdict.UNKNOWN, None),
        ({"status": 429}, Verdict.UNKNOWN, None),
        ({"status": 422}, Verdict.FAILED, None),
        ({"status": 200}, Verdict.UNKNOWN, Breach.CONTRADICTION),
        ({"status": 404, "conflictInformation": {}}, Verdict.UNKNOWN, Breach.CONTRADICTION),
        ({"status": "gone"}, Verdict.UNKNOWN, Breach.UNHEARD),
        ({"status": 404.0}, Verdict.UNKNOWN, Breach.UNHEARD),
        ({"status": True}, Verdict.UNKNOWN, Breach.UNHEARD),
        (None, Verdict.UNKNOWN, Breach.UNHEARD),
        ("Not found", Verdict.UNKNOWN, Breach.UNHEARD),
    ],
)
def test_the_table_of_verdicts(
    http_status: int, entry: Any, verdict: Verdict, breach: Breach | None
) -> None:
    reply = read(http_status, result({"acme.One": entry}))

    assert reply.findings[ONE].verdict is verdict
    assert (reply.findings[TWO].verdict, reply.findings[TWO].evidence) == (
        Verdict.DELETED,
        Evidence.BATCH,
    )
    assert [warned.breach for warned in reply.warnings] == ([breach] if breach else [])


# Rule 1: what fails the whole request; rule 11 of all vendors for the rest.
@pytest.mark.parametrize(
    ("status", "body", "kind", "may_have_run", "code"),
    [
        (400, flat(400), Refused, True, "400"),
        (200, flat("400"), Refused, True, "400"),
        (401, flat(401), Hopeless, False, "401"),
        (401, b"", Hopeless, False, "401"),
        (200, flat(401), Hopeless, False, "401"),
        (403, flat(403), Hopeless, True, "403"),
        (404, flat(404), Hopeless, False, "404"),
        (500, flat(404), Hopeless, True, "404"),
        (500, flat(500), Transient, True, "500"),
        (200, flat("503"), Transient, True, "503"),
        (400, flat(None), Refused, True, "400"),
        (429, flat(429), Transient, False, "429"),
        (429, b"", Transient, False, "429"),
        (400, {"error": "no"}, Transient, True, "400"),
        (200, b"", Transient, True, "200"),
        (200, [], Transient, True, "200"),
        (200, {"processed": 2}, Transient, True, "200"),
        (200, {"errors": {}}, Transient, True, "200"),
        (200, result(None), Transient, True, "200"),
        (200, result([]), Transient, True, "200"),
        (302, result({}), Transient, True, "302"),
        (502, b"<html>", Transient, True, "502"),
        (404, b"<html>", Hopeless, False, "404"),
        (405, b"", Hopeless, False, "405"),
        # A partial result of any status may be cut short.
        (404, b'{"processed":2,"errors":{"acme.One":', Transient, True, "404"),
        (403, b'{"processed":2,"errors":{"acme.One":', Transient, True, "403"),
    ],
)
def test_the_table_of_failures(
    status: int, body: Any, kind: type[CallFailed], *, may_have_run: bool, code: str
) -> None:
    with pytest.raises(kind) as failure:
        read(status, body)

    assert (failure.value.may_have_run, failure.value.code) == (may_have_run, code)
    assert "acme.One" not in str(failure.value)


# Rules 2 and 4: what an answer does not account for is not deleted.
@pytest.mark.parametrize(
    ("errors", "processed", "verdicts", "breaches"),
    [
        ({}, 2, {ONE: "deleted", TWO: "deleted"}, []),
        ({}, "2", {ONE: "deleted", TWO: "deleted"}, []),
        ({}, 1, {}, [Breach.MISCOUNT]),
        ({}, 0, {}, [Breach.MISCOUNT]),
        ({}, None, {}, [Breach.MISCOUNT]),
        ({}, 2.0, {}, [Breach.MISCOUNT]),
        ({}, True, {}, [Breach.MISCOUNT]),
        ({"acme.One": {"status": 404}}, 1, {ONE: "absent"}, [Breach.MISCOUNT]),
        ({"acme.One": {"status": 404}}, 0, {ONE: "absent"}, [Breach.MISCOUNT]),
        ({"acme.One": {"status": 404}}, ":", {ONE: "absent"}, [Breach.MISCOUNT]),
        ({}, 3, {}, [Breach.MISCOUNT]),
        ({}, "3", {}, [Breach.MISCOUNT]),
        ({"acme.One": {"status": 404}}, 3, {ONE: "unknown"}, [Breach.MISCOUNT]),
        ({".Two": {"status": 404}}, 2, {ONE: "deleted", TWO: "absent"}, []),
        ({"Two": {"status": 404}}, 2, {ONE: "deleted", TWO: "absent"}, []),
        (
            {"Two": {"status": 404}, ".Two": {"status": 403}},
            2,
            {ONE: "deleted", TWO: "unknown"},
            [Breach.CONTRADICTION],
        ),
        ({"acme.Three": {"status": 404}}, 2, {}, [Breach.STRANGER]),
        ({"ACME.One": {"status": 404}}, 2, {}, [Breach.STRANGER]),
        (
            {"acme.One": {"status": 404}, "x": {"status": 404}},
            2,
            {ONE: "absent"},
            [Breach.STRANGER],
        ),
    ],
)
def test_what_is_accounted_for(
    errors: Any, processed: Any, verdicts: dict[str, str], breaches: list[Breach]
) -> None:
    reply = read(200, result(errors, processed))

    assert {key: str(found.verdict) for key, found in reply.findings.items()} == verdicts
    assert [warned.breach for warned in reply.warnings] == breaches


def test_the_status_of_the_answer_stands_in_for_one_that_is_missing() -> None:
    assert read(404, result({"acme.One": {}})).findings[ONE].verdict is Verdict.ABSENT
    assert read(200, result({"acme.One": {}})).findings[ONE].verdict is Verdict.UNKNOWN


def test_a_denial_says_what_is_needed_and_holds_no_item_and_no_trace() -> None:
    entry = {
        "status": 403,
        "code": 4031,
        "developerMessage": "Unauthorized: 'edit' is missing for acme.One, One of acme.",
        "localizedMessage": "LOCAL",
        "stackTrace": [{"methodName": "TRACE"}],
    }

    finding = read(403, result({"acme.One": entry})).findings[ONE]

    assert finding.code == "4031"
    assert finding.message is not None
    assert "Application Publisher Profile" in finding.message
    assert "'edit' is missing for <item>, <item> of <item>." in finding.message
    assert not any(word in repr(finding) for word in ("LOCAL", "TRACE", "acme", "One"))


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (flat(503), {"retry-after": "7"}, 7),
        (flat(503), {"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT",
                     "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 9),
        (flat(503), {}, None),
        ({}, {"retry-after": "7"}, 7),
    ],
)  # fmt: skip
def test_a_failure_that_says_how_long_it_lasts_is_heeded(
    body: Any, headers: dict[str, str], seconds: int | None
) -> None:
    with pytest.raises(Transient) as failure:
        read_answer(Answer(503, headers, json.dumps(body).encode(), "http://amalto"), SENT)

    assert failure.value.wait == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("status", "body", "presence"),
    [
        (404, flat(404), Presence.GONE),
        (404, flat("404"), Presence.GONE),
        (200, {"name": "One", "appKey": "acme"}, Presence.THERE),
        (200, [], None),
        (200, [{"name": "One"}], None),
        (200, {}, None),
        (200, flat(404), None),
        (400, flat(400), None),
    ],
)
def test_the_table_of_looks(status: int, body: Any, presence: Presence | None) -> None:
    answer = Answer(
        status, {}, json.dumps(body).encode(), "http://amalto get item", may_have_run=False
    )

    assert read_presence(answer) is presence


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"<html>"), (404, b"{}"), (404, b'{"status":500,"developerMessage":""}'), (200, b""),
     (500, b""), (403, b""), (429, b""), (302, b"")],
)  # fmt: skip
def test_a_look_that_is_none_raises(status: int, body: bytes) -> None:
    with pytest.raises(CallFailed) as failure:
        read_presence(Answer(status, {}, body, "http://amalto get item", may_have_run=False))

    assert not failure.value.may_have_run


ERRORS = st.dictionaries(
    st.sampled_from(["acme.One", ".Two", "Two", "x"]) | st.text(max_size=4),
    st.fixed_dictionaries(
        {}, optional={"status": st.sampled_from([404, "404", 403, 500, 200, None, 1.5, []])}
    )
    | st.none(),
    max_size=3,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries({"processed": inner, "errors": inner})
        | st.fixed_dictionaries({"status": inner, "developerMessage": inner})
    ),
    max_leaves=8,
) | st.builds(result, ERRORS, st.integers(0, 4) | st.text("012x:\u0663", max_size=1))


def claimed(document: Any, status: int, key: str) -> bool:
    """Whether the document can mean that the key is gone."""
    errors, count = document["errors"], number(document["processed"])
    entries = [entry for text, entry in errors.items() if text in SENT[key].candidates]
    if entries:
        found = {str((entry or {}).get("status") or status) for entry in entries}
        # A count that cannot be read takes nothing from what is said by name.
        return found == {"404"} and (count is None or count <= len(SENT))
    known = SENT[ONE].candidates | SENT[TWO].candidates
    return count == len(SENT) and known.issuperset(errors)


def number(value: Any) -> int | None:
    """A count, if it is one: an integer, perhaps as text."""
    is_one = isinstance(value, int | str) and re.fullmatch("-?[0-9]+", str(value))
    return int(value) if is_one else None


@given(status=st.integers(200, 599), document=JSON)
@settings(max_examples=100, deadline=None)
def test_whatever_document_comes_nothing_is_claimed_that_it_does_not_say(
    status: int, document: Any
) -> None:
    try:
        reply = read(status, document)
    except (Transient, Refused, Hopeless):
        return
    assert_sound(reply, SENT)
    for key in gone_keys(reply):
        assert claimed(document, status, key)


STATUS = st.sampled_from([200, 207, 302, 400, 401, 403, 404, 409, 429, 500, 503])


def written(status: int, document: Any) -> bytes:
    return ok(json.dumps(document).encode(), status=f"{status} So")


def test_whatever_bytes_come_nothing_but_the_three_errors_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AMALTO_TOKEN", "jwt")
    with Wire() as wire:
        table = {
            "adapter": "amalto",
            "base_url": wire.url,
            "token": {"env": "AMALTO_TOKEN"},
            "service_id": "archive",
            "items_name": "documents",
        }
        adapter = Amalto(Amalto.Settings.model_validate(table), pace=FreePace())

        @given(st.binary(max_size=300) | st.builds(written, STATUS, JSON))
        @settings(max_examples=100, deadline=None)
        def answer_with(answer: bytes) -> None:
            wire.answer = answer
            items = {key: json.loads(key) for key in SENT}
            for act in (adapter.delete, adapter.probe):
                try:
                    reply = act(items, until=soon())
                except (Transient, Refused, Hopeless):
                    continue
                if isinstance(reply, Reply):
                    assert_sound(reply, SENT)
                elif Presence.GONE in reply.values():
                    assert answer.startswith(b"HTTP/1.1 404 ")

        answer_with()
        adapter.close()
