"""Items from a file."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import UnreadableFile
from worker.sources.file import FileFormat, choose_format, open_items, read_items
from worker.sources.lines import MAX_LINE_BYTES, BadLine

JSONL, CSV, PLAIN = FileFormat.JSONL, FileFormat.CSV, FileFormat.PLAIN


def read(text: str | bytes, file_format: FileFormat, column: str | None = None) -> list[Any]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_items(io.BytesIO(content), file_format=file_format, column=column))


def shape(lines: list[Any]) -> list[Any]:
    """The same, with the number alone for a bad line."""
    return [("bad", line.number) if isinstance(line, BadLine) else line for line in lines]


class Endless(io.RawIOBase):
    """A stream whose only line never ends, and that counts what was read at once."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.largest_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.left)
        buffer[:count] = b"x" * count
        self.left -= count
        self.largest_read = max(self.largest_read, len(buffer))
        return count


def test_plain_text_is_an_item_a_line_as_it_stands() -> None:
    assert read(" a \n007\r\n{}\nlast", PLAIN) == [" a ", "007", "{}", "last"]


def test_a_line_of_json_is_a_string_an_integer_or_an_object() -> None:
    text = '"a"\n7\n-3\n{"b": 1, "a": [null, 1.5]}\r\n  "c"  \n'

    assert read(text, JSONL) == ["a", 7, -3, {"b": 1, "a": [None, 1.5]}, "c"]


def test_integers_and_lone_surrogates_stay_what_they_are() -> None:
    assert read('9007199254740993\n"\\ud800"\n"\\u00fc"', JSONL) == [2**53 + 1, "\ud800", "ü"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1.0", "found a fraction"),
        ("true", "found true or false"),
        ("null", "found null"),
        ("[1]", "found a list"),
        ("NaN", "NaN and Infinity are not JSON"),
        ('{"a": -Infinity}', "NaN and Infinity are not JSON"),
        ("1e999", "too large"),
        ("9" * 5000, "too many digits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "a key twice"),
        ("[" * 10_000, "nested too deeply"),
        ('"a', "not JSON: Unterminated string"),
        ('"a" "b"', "not JSON: Extra data (character 5)"),
    ],
)
def test_a_line_that_holds_no_item_is_told_with_its_number(line: str, reason: str) -> None:
    before, bad, after = read(f"1\n{line}\n3", JSONL)

    assert (before, after) == (1, 3)
    assert bad.number == 2
    assert reason in bad.reason


@pytest.mark.parametrize("file_format", [PLAIN, JSONL])
def test_an_empty_line_keeps_its_place_and_those_at_the_end_are_no_lines(
    file_format: FileFormat,
) -> None:
    lines = read("\n1\n\n \t\r\n2\n\n\n", file_format)

    assert [str(line) for line in shape(lines)] == [
        "('bad', 1)",
        "1",
        "('bad', 3)",
        "('bad', 4)",
        "2",
    ]
    assert lines[0] == BadLine(1, "an empty line")


@pytest.mark.parametrize("file_format", [PLAIN, JSONL])
@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\ufeff\n\n"])
def test_a_file_without_lines_has_no_items(file_format: FileFormat, text: str) -> None:
    assert read(text, file_format) == []


@pytest.mark.parametrize(("file_format", "column"), [(PLAIN, None), (JSONL, None), (CSV, "1")])
def test_a_byte_order_mark_is_no_part_of_the_first_line(
    file_format: FileFormat, column: str | None
) -> None:
    found = read("\ufeff1\n2\n", file_format, column)

    assert [str(item) for item in found] == ["1", "2"] if column is None else ["2"]


@pytest.mark.parametrize(("file_format", "column"), [(PLAIN, None), (JSONL, None), (CSV, "1")])
def test_a_file_in_utf_16_is_refused(file_format: FileFormat, column: str | None) -> None:
    with pytest.raises(UnreadableFile, match="UTF-16"):
        read("1\n2".encode("utf-16"), file_format, column)


def test_a_line_that_is_not_utf_8_costs_itself_alone() -> None:
    assert shape(read(b"a\nb\xff\nc", PLAIN)) == ["a", ("bad", 2), "c"]
    assert shape(read(b'id\na\n"b\xff"\nc', CSV, "id")) == ["a", ("bad", 2), "c"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_line_may_be_as_long_as_an_item(end: str) -> None:
    longest = "x" * (MAX_LINE_BYTES - 2)

    assert read(longest + end, PLAIN) == [longest]
    assert shape(read(longest + "x" + end, PLAIN)) == [("bad", 1)]


def test_a_line_that_is_too_long_costs_itself_alone() -> None:
    text = "a\n" + "x" * 300_000 + "\nb"

    assert shape(read(text, PLAIN)) == ["a", ("bad", 2), "b"]
    assert shape(read("id\n" + text, CSV, "id")) == ["a", ("bad", 2), "b"]


def test_a_line_without_end_is_never_held_in_memory() -> None:
    endless = Endless(50_000_000)

    lines = list(read_items(io.BufferedReader(endless), file_format=PLAIN))

    assert shape(lines) == [("bad", 1)]
    assert endless.left == 0
    assert endless.largest_read <= 128 * 1024


def test_csv_takes_one_column_and_counts_data_rows() -> None:
    text = 'name,id\r\n"Doe, J",1\r\n"two\r\nlines",2\r\nlast,3'

    assert read(text, CSV, "id") == ["1", "2", "3"]
    assert read(text, CSV, "name") == ["Doe, J", "two\r\nlines", "last"]


def test_a_blank_line_is_no_row_of_csv() -> None:
    assert read("id\n\n1\n\n2\n\n", CSV, "id") == ["1", "2"]


def test_a_bad_row_of_csv_is_told_with_its_number_and_its_line() -> None:
    lines = read('id,x\n1,"a\nb"\n2\n3,,\n,4\n"5"6,x\n7,y', CSV, "id")

    assert shape(lines) == ["1", ("bad", 2), ("bad", 3), ("bad", 4), ("bad", 5), "7"]
    assert lines[1].reason == (
        "expected 2 cells as in the header, found 1 (the row that begins in line 4)"
    )
    assert "an empty cell" in lines[3].reason


@pytest.mark.parametrize("rows", [3, 30_000])
def test_a_quote_that_is_not_closed_swallows_nothing(rows: int) -> None:
    lines = read('id\n"open\n' + "a\n" * rows, CSV, "id")

    assert shape(lines) == [("bad", 1), *["a"] * rows]


def test_a_cell_may_be_as_long_as_an_item_and_a_row_longer() -> None:
    rest = "y" * 50_000

    found = read(f"id,x\n{'x' * (MAX_LINE_BYTES - 2)},{rest}\n{'ü' * MAX_LINE_BYTES},", CSV, "id")

    assert shape(found) == ["x" * (MAX_LINE_BYTES - 2), ("bad", 2)]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", "id", "expected a header row"),
        ('"id', "id", "expected a header row .*not CSV"),
        ("id\n1", None, 'with --column: "id"'),
        ("id;name\n1;a", "id", 'no column "id", only "id;name"'),
        ("id,id\n1,2", "id", 'more than one column "id"'),
    ],
)
def test_csv_without_the_column_is_refused_at_once(
    text: str, column: str | None, message: str
) -> None:
    stream = io.BytesIO(text.encode())

    with pytest.raises(UnreadableFile, match=message):
        read_items(stream, file_format=CSV, column=column)


def test_a_column_is_for_csv() -> None:
    with pytest.raises(UnreadableFile, match="a column is for CSV"):
        read("1", JSONL, "id")


@pytest.mark.parametrize(
    ("name", "given_format", "column", "expected"),
    [
        ("a.jsonl", None, None, JSONL),
        ("a.NDJSON", None, None, JSONL),
        ("a.json", None, None, JSONL),
        ("a.csv", None, None, CSV),
        ("a.csv", PLAIN, None, PLAIN),
        ("a.txt", None, None, PLAIN),
        ("a", None, None, PLAIN),
        ("-", None, None, PLAIN),
        ("-", None, "id", CSV),
        ("-", JSONL, None, JSONL),
        ("a.jsonl", None, "id", JSONL),
    ],
)
def test_the_format_is_what_was_asked_for_or_follows_from_the_name(
    name: str, given_format: FileFormat | None, column: str | None, expected: FileFormat
) -> None:
    assert choose_format(name, given=given_format, column=column) is expected


def test_a_file_is_opened_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("id\n1\n2\n")

    with open_items(str(path), stdin=io.BytesIO(), column="id") as items:
        assert next(items) == "1"


def test_a_dash_is_standard_input() -> None:
    stdin = io.BytesIO(b"1\n2\n")

    with open_items("-", stdin=stdin) as items:
        assert list(items) == ["1", "2"]
    assert not stdin.closed


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)

    with (
        pytest.raises(UnreadableFile, match=f"^{path}: cannot be read"),
        open_items(path, stdin=io.BytesIO()) as items,
    ):
        list(items)


json_items = st.one_of(
    st.text(), st.integers(), st.dictionaries(st.text(), st.none() | st.integers() | st.text())
)


@given(st.lists(json_items))
def test_what_was_written_as_json_lines_is_read_back(items: list[Any]) -> None:
    text = "\n".join(json.dumps(item) for item in items)

    assert read(text, JSONL) == items


@given(st.binary(), st.sampled_from([(PLAIN, None), (JSONL, None), (CSV, "id")]))
def test_no_content_breaks_the_reading_and_every_place_is_kept(
    content: bytes, how: tuple[FileFormat, str | None]
) -> None:
    lines = read(b"id\n" + content, *how)

    assert all(line.number == place for place, line in enumerate(lines, 1) if _is_bad(line))
    assert len(lines) <= content.count(b"\n") + 2


def _is_bad(line: Any) -> bool:
    return isinstance(line, BadLine)
