"""Items from one column of a CSV file.

Positions count data rows: the first row after the header is position 0, and a
cell with line breaks is part of one row. A row that cannot be read costs
itself alone. Where a quote was not closed, the lines after it are read again.
"""

import csv
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from api_adapters.base import Item
from worker.errors import UnreadableFile
from worker.sources.lines import (
    BadLine,
    Line,
    NoItem,
    bounded_lines,
    decode,
    fitting,
    too_long,
)

#: A row has other columns beside the item's. Also how far an open quote reaches.
MAX_ROW_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class _Row:
    """A row, or what is wrong with it; blank lines have no cells."""

    line: int
    cells: list[str]
    fault: str | None = None


def read_column(stream: BinaryIO, *, column: str | None) -> Iterator[Line]:
    """Read the header at once, the items as they are asked for, as text.

    Raises:
        UnreadableFile: there is no such column, or reading fails.
    """
    rows = _rows(bounded_lines(stream, max_bytes=MAX_ROW_BYTES))
    header = next(rows, None)
    if header is None or not header.cells:
        fault = f" ({header.fault})" if header is not None and header.fault else ""
        raise UnreadableFile(f"expected a header row with the names of the columns{fault}")
    return _items(rows, index=_find(column, header.cells), width=len(header.cells))


def _find(column: str | None, header: list[str]) -> int:
    names = ", ".join(json.dumps(name) for name in header)
    if column is None:
        # Not even if there is only one: it may be a file without a header,
        # whose first item would be lost.
        raise UnreadableFile(f"say which column holds the items, with --column: {names}")
    if header.count(column) != 1:
        found = "no" if column not in header else "more than one"
        raise UnreadableFile(f"there is {found} column {json.dumps(column)}, only {names}")
    return header.index(column)


def _items(rows: Iterator[_Row], *, index: int, width: int) -> Iterator[Line]:
    for number, row in enumerate(rows, 1):
        try:
            yield _item(row, index=index, width=width)
        except NoItem as reason:
            yield BadLine(number, f"{reason} (the row that begins in line {row.line})")


def _item(row: _Row, *, index: int, width: int) -> Item:
    if row.fault is not None:
        raise NoItem(row.fault)
    # Where a comma was not quoted, the cells are not in their columns.
    if len(row.cells) != width:
        raise NoItem(f"expected {width} cells as in the header, found {len(row.cells)}")
    cell = row.cells[index]
    if not cell.strip():
        raise NoItem("an empty cell")
    return fitting(cell)


def _rows(lines: Iterator[bytes | None]) -> Iterator[_Row]:
    """Every row, with its first line; a blank line is no row."""
    feed = _Feed(lines)
    reader = csv.reader(feed, strict=True)
    while True:
        line = feed.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, NoItem) as error:
            # The reader starts a new row after an error.
            feed.give_back_all_but_the_first()
            yield _Row(line, [], fault=f"not CSV: {error}")
            continue
        if cells:
            yield _Row(line, cells)


class _Feed:
    """Hands lines to the reader and remembers those of the current row."""

    def __init__(self, lines: Iterator[bytes | None]) -> None:
        self._lines = lines
        self._given_back: deque[bytes | None] = deque()
        self._taken: list[bytes | None] = []
        self._taken_bytes = 0
        self._line = 1

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else next(self._lines)
        self._taken.append(line)
        if line is None:
            raise too_long(MAX_ROW_BYTES)
        self._taken_bytes += len(line)
        if self._taken_bytes > MAX_ROW_BYTES:
            raise NoItem("a quote that is not closed")
        return decode(line)

    def begin_row(self) -> int:
        """Forget the last row; returns the number of the line that comes next."""
        self._line += len(self._taken)
        self._taken, self._taken_bytes = [], 0
        return self._line

    def give_back_all_but_the_first(self) -> None:
        """Let the lines that a bad row had swallowed be read again."""
        self._given_back.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
