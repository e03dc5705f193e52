"""Rows of results as JSON lines, CSV or a table.

A row is a mapping with the keys of `COLUMNS`. All writers stream: memory does
not grow with the rows.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import chain, islice
from typing import Any, TextIO

from worker.item import Outcome

Row = Mapping[str, Any]

COLUMNS = (
    "position",
    "item",
    "verdict",
    "evidence",
    "code",
    "message",
    "attempts",
    "decided_at",
)

#: How many rows decide how wide the columns of a table are; a longer cell of a
#: later row moves its neighbours, as cutting it would make an id useless.
_ROWS_MEASURED = 200
_WIDEST = 60

#: What a spreadsheet takes for the beginning of a formula: also behind blanks,
#: which some leave out, and in the full width of East Asian keyboards.
_FORMULA = re.compile("[\\s\0\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0]")

# In ASCII, so that a lone surrogate in an item survives, and no letter of an
# item can steer a terminal.
_JSON = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


class ResultFormat(StrEnum):
    """How results are written."""

    JSONL = "jsonl"  #: one JSON object a line, for programs
    CSV = "csv"  #: for spreadsheets
    TABLE = "table"  #: for people


def write_outcomes(
    outcomes: Iterable[Outcome], out: TextIO, *, result_format: ResultFormat
) -> None:
    """Write outcomes in the format that was asked for."""
    match result_format:
        case ResultFormat.JSONL:
            out.writelines(json_lines(outcomes))
        case ResultFormat.CSV:
            write_csv((one.as_json() for one in outcomes), out)
        case ResultFormat.TABLE:
            write_table((one.as_json() for one in outcomes), out)


def json_lines(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """One JSON object a line; what neighbours have in common is written out once."""
    mark, decided_at, shared = None, None, ""
    for one in outcomes:
        if one.mark is not mark or one.decided_at is not decided_at:
            mark, decided_at = one.mark, one.decided_at
            row = one.as_json()
            shared = _JSON.encode({name: row[name] for name in COLUMNS[2:]})[1:]
        yield f'{{"position":{one.position},"item":{one.text},{shared}\n'


def write_csv(rows: Iterable[Row], out: TextIO) -> None:
    """Write a header and the rows; what is no text is its JSON, nothing is an empty cell.

    A cell that a spreadsheet would take for a formula begins with an
    apostrophe. So does the item -5: in CSV an integer cannot be told from text.
    """
    # Rows end with CR LF, as RFC 4180 has it: before Python 3.13 the writer does
    # not quote a cell for a CR that is no part of its line end.
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_guarded(_text(row[name])) for name in COLUMNS] for row in rows)


def write_table(rows: Iterable[Row], out: TextIO) -> None:
    """Write aligned text; what is not printable is escaped, so no item steers the terminal."""
    cells = ([_printable(_text(row[name]) or "-") for name in COLUMNS] for row in rows)
    lines = chain([[name.replace("_", " ") for name in COLUMNS]], cells)
    first = list(islice(lines, _ROWS_MEASURED))
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(*first, strict=True)]
    out.writelines(_aligned(chain(first, lines), widths))


def _aligned(lines: Iterable[list[str]], widths: list[int]) -> Iterator[str]:
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip() + "\n"


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool() | float() | list() | dict():
            return _JSON.encode(value)
        case _:
            return str(value)


def _guarded(cell: str) -> str:
    r"""Keep a spreadsheet from running a cell, and a file from refusing it.

    >>> _guarded("=HYPERLINK(1)"), _guarded("-5"), _guarded("a-5")
    ("'=HYPERLINK(1)", "'-5", 'a-5')
    """
    if not cell.isascii():
        # A lone surrogate cannot be written as UTF-8.
        cell = cell.encode("utf-8", "backslashreplace").decode()
    return "'" + cell if _FORMULA.match(cell) else cell


def _printable(cell: str) -> str:
    r"""Escape control characters, also the ones that turn the direction of text.

    >>> _printable("a\x1b[2Jü\u202e")
    'a\\x1b[2Jü\\u202e'
    """
    if cell.isprintable():
        return cell
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in cell
    )
