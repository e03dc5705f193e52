"""Rows of results, written."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Evidence, Verdict
from worker.cli.formats import (
    ResultFormat,
    json_lines,
    write_csv,
    write_outcomes,
    write_table,
)
from worker.cli.output import open_output
from worker.item import Mark, Outcome, to_json


def row(item: Any = "a", **changes: Any) -> dict[str, Any]:
    return {
        "position": 0,
        "item": item,
        "verdict": "deleted",
        "evidence": "item",
        "code": None,
        "message": None,
        "attempts": 1,
        "decided_at": "2030-01-31T00:00:00+00:00",
        **changes,
    }


NOON = datetime(2030, 1, 31, tzinfo=UTC)
PLAIN = Mark(Verdict.DELETED, Evidence.ITEM, calls=1)


def outcome(
    item: Any = "a", position: int = 0, mark: Mark = PLAIN, decided_at: datetime | None = NOON
) -> Outcome:
    return Outcome(position, to_json(item), mark, decided_at)


def as_csv(*rows: dict[str, Any]) -> list[list[str]]:
    out = io.StringIO(newline="")
    write_csv(rows, out)
    return list(csv.reader(io.StringIO(out.getvalue(), newline="")))


def as_table(*rows: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    write_table(rows, out)
    return out.getvalue().splitlines()


def test_a_line_of_json_has_the_shape_that_programs_rely_on() -> None:
    (line,) = json_lines([outcome()])

    assert line == (
        '{"position":0,"item":"a","verdict":"deleted","evidence":"item","code":null,'
        '"message":null,"attempts":1,"decided_at":"2030-01-31T00:00:00.000Z"}\n'
    )


def test_every_line_says_what_its_own_outcome_does() -> None:
    odd = Mark(Verdict.FAILED, code="x", calls=2)
    outcomes = [
        outcome("a", 0),
        outcome("b", 1),
        outcome({"id": 7}, 2, odd),
        outcome("c", 4),
        outcome("d", 5, decided_at=NOON + timedelta(seconds=1)),
        outcome("e", 6, Mark(Verdict.DELETED, calls=1), None),
    ]

    lines = list(json_lines(outcomes))

    assert [json.loads(line) for line in lines] == [one.as_json() for one in outcomes]


items = st.one_of(st.text(), st.integers(), st.dictionaries(st.text(), st.integers()))


@given(st.lists(items))
def test_every_item_survives_json_lines(given_items: list[Any]) -> None:
    lines = list(json_lines([outcome(item) for item in [*given_items, "\ud800"]]))

    assert all(line.isascii() and line.count("\n") == 1 for line in lines)
    read = [json.loads(line)["item"] for line in lines]
    assert read == [*given_items, "\ud800"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_cell_that_looks_like_a_formula_is_guarded(cell: str) -> None:
    _, written = as_csv(row(cell, message=cell))

    assert written[1] == "'" + cell
    assert written[5] == "'" + cell


def test_other_cells_of_csv_are_as_they_are() -> None:
    header, *written = as_csv(row(-5), row(7), row({"a": "ü"}), row('a,"b"\n'), row(None))

    assert header[:2] == ["position", "item"]
    assert [cells[1] for cells in written] == ["'-5", "7", '{"a":"\\u00fc"}', 'a,"b"\n', ""]


@given(st.lists(st.text(), min_size=1))
def test_every_text_can_be_written_as_csv(texts: list[str]) -> None:
    out = io.StringIO()

    write_csv([row(text) for text in [*texts, "\ud800"]], out)

    assert out.getvalue().encode()
    assert not any(cells[1].startswith(tuple("=+-@\t\r")) for cells in as_csv(*map(row, texts))[1:])


def test_a_table_is_aligned_and_has_a_dash_for_nothing() -> None:
    header, first, second = as_table(row("a"), row("longer", position=12, code="404"))

    assert [line.index("deleted") for line in (first, second)] == [header.index("verdict")] * 2
    assert first.split() == ["0", "a", "deleted", "item", "-", "-", "1", row()["decided_at"]]


def test_a_table_cuts_nothing() -> None:
    long = "x" * 500

    assert long in as_table(row(), row(long))[2]


def test_no_item_steers_the_terminal() -> None:
    table = as_table(row("\x1b[2J\u202e\r\n\x9b\ud800"))

    assert len(table) == 2
    assert "\\x1b[2J\\u202e\\r\\n\\x9b\\ud800" in table[1]


@pytest.mark.parametrize("result_format", list(ResultFormat))
def test_memory_does_not_grow_with_the_rows(result_format: ResultFormat) -> None:
    def outcomes() -> Iterator[Outcome]:
        for position in range(20_000):
            yield outcome("x" * 100, position)

    with Path(os.devnull).open("w") as out:
        tracemalloc.start()
        write_outcomes(outcomes(), out, result_format=result_format)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 1_000_000


def test_no_rows_leave_a_header_alone() -> None:
    assert len(as_csv()) == len(as_table()) == 1


def test_a_file_appears_when_all_is_written_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("older")

    with open_output(str(path), stdout=io.StringIO()) as out:
        out.write("a\r\nb\n")
        assert path.read_text() == "older"

    assert path.read_bytes() == b"a\r\nb\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("older")

    def fail() -> None:
        with open_output(str(path), stdout=io.StringIO()) as out:
            out.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with open_output(str(tmp_path / "link"), stdout=io.StringIO()) as out:
        out.write("new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_device_is_never_replaced() -> None:
    with open_output("/dev/null", stdout=io.StringIO()) as out:
        out.write("nothing")

    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", [None, "-"])
def test_a_dash_or_nothing_is_standard_output(name: str | None) -> None:
    stdout = io.StringIO()

    with open_output(name, stdout=stdout) as out:
        out.write("rows")

    assert stdout.getvalue() == "rows"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = """
import sys
from worker.cli.output import open_output
with open_output(None, stdout=sys.stdout) as out:
    for number in range(1_000_000):
        out.write(f"{number}\\n")
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        complaint = process.stderr.read()

    assert complaint == ""
    assert process.returncode == 0
