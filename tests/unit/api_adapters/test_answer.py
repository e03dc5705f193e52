"""Reading an answer never fails in an unforeseen way."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_adapters.answer import LONGEST_WAIT, Answer, retry_after, trim, undocumented, whole_number
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body, "https://crm delete")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"a": 1',
        b'{"a": 1, "a": 2}',
        b'[{"deep": {"a": 1, "a": 1}}]',
        b'{"a": NaN}',
        b"-Infinity",
        b"1e999",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5_000,
        b'"\xff\xfe"',
        b"\xed\xa0\x80",
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_a_document_not_to_rely_on_is_none(body: bytes) -> None:
    assert answer(body=body).document is None


def test_a_document_may_begin_with_a_byte_order_mark() -> None:
    assert answer(body=b'\xef\xbb\xbf{"a": 1}').document == {"a": 1}


@given(st.binary())
def test_any_bytes_are_read(body: bytes) -> None:
    found = answer(body=body).document

    assert found is None or json.dumps(found)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("3601", 3600),
        ("9" * 5_000, 3600),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30),
        ("Thu Jan  1 12:00:30 2026", 30),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Fri, 01 Jan 2027 12:00:00 GMT", 3600),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("\u0665", None),
        ("Thu, 99 Jan 2026 12:00:00 GMT", None),
        ("Thu, 01 Jan 99999 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_read(value: str, wait: int | None) -> None:
    expected = None if wait is None else timedelta(seconds=wait)

    assert retry_after({"retry-after": value}, now=NOW) == expected


def test_a_retry_after_date_is_measured_by_the_backends_own_clock() -> None:
    headers = {
        "date": "Thu, 01 Jan 2026 09:00:00 GMT",
        "retry-after": "Thu, 01 Jan 2026 09:00:10 GMT",
    }

    assert retry_after(headers, now=NOW) == timedelta(seconds=10)


@given(st.text(), st.text())
def test_any_retry_after_is_survived(value: str, date: str) -> None:
    wait = retry_after({"retry-after": value, "date": date}, now=NOW)

    assert wait is None or timedelta(0) <= wait <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("status", "kind", "may_have_run"),
    [
        (429, Transient, False),
        (200, Transient, True),
        (204, Transient, True),
        (301, Transient, True),
        (400, Transient, True),
        (500, Transient, True),
        (503, Transient, True),
        (403, Hopeless, True),
        (404, Hopeless, False),
        (405, Hopeless, False),
        (407, Hopeless, False),
        (415, Hopeless, False),
        (501, Hopeless, False),
        (413, Refused, True),
    ],
)
def test_an_undocumented_answer_is_sorted_by_its_status(
    status: int, kind: type[CallFailed], *, may_have_run: bool
) -> None:
    error = undocumented(answer(status), change="delete_path")

    assert type(error) is kind
    assert error.may_have_run is may_have_run
    assert error.code == str(status)
    assert str(error).startswith(f"https://crm delete: HTTP {status}")


def test_a_wrong_address_names_the_setting_and_closes_the_target() -> None:
    error = undocumented(answer(404, b"<html>"), change="delete_path")

    assert isinstance(error, Hopeless)
    assert error.closes_target
    assert "change delete_path" in error.reason


@pytest.mark.parametrize("status", [403, 404, 405, 415, 501])
@pytest.mark.parametrize("body", [b'{"errors":{"a":', b'\n[{"ok":'])
def test_a_document_that_was_cut_short_proves_no_wrong_address(status: int, body: bytes) -> None:
    error = undocumented(answer(status, body), change="delete_path")

    assert type(error) is Transient
    assert error.may_have_run


def test_a_busy_gateway_is_obeyed_too() -> None:
    error = undocumented(answer(503, retry_after="9"), change="base_url")

    assert isinstance(error, Transient)
    assert error.wait == timedelta(seconds=9)


def test_a_request_that_deletes_nothing_leaves_no_doubt() -> None:
    looked = Answer(502, {}, b"", "https://crm probe", may_have_run=False)

    assert not undocumented(looked, change="base_url").may_have_run


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        (" a\r\n\tb\x00\x1b[31mc\u2028d ", "a b [31mc d"),
        ("\ud800", ""),
        ("x" * 30, "x" * 19 + "…"),
        (" " * 200 + "late", "…"),
    ],
)
def test_text_of_a_backend_is_trimmed(text: str, line: str) -> None:
    assert trim(text, length=20) == line


@given(st.text(alphabet=st.characters()))
def test_trimmed_text_is_short_one_line_and_can_be_stored(text: Any) -> None:
    line = trim(text, length=20)

    assert len(line) <= 20
    assert line.isprintable()
    assert line.encode() is not None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (-3, -3),
        ("403106", 403106),
        ("007", 7),
        (True, None),
        (2.0, None),
        ("2.0", None),
        ("-1", None),
        (" 1", None),
        ("\u0661", None),
        ("9" * 5_000, None),
        ("", None),
        (None, None),
        ([1], None),
    ],
)
def test_a_whole_number_may_be_written_as_text(value: object, number: int | None) -> None:
    assert whole_number(value) == number


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text('a:"\\{', max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab:", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_a_document_is_read_as_it_was_written(value: object) -> None:
    assert answer(body=json.dumps(value).encode()).document == value


@given(st.text("a:{", max_size=4), st.text("a:{", max_size=4))
@pytest.mark.parametrize("around", ["%s", '{"rows":[{"x":":"},%s]}', '[[{"a": %s}, 1]]'])
def test_a_doubled_key_is_seen_whatever_stands_beside_it(around: str, one: str, other: str) -> None:
    doubled = f'{{{json.dumps(one)}:1,"x":{json.dumps(other)},{json.dumps(one)}:2}}'

    assert answer(body=(around % doubled).encode()).document is None
