"""Items from a file: JSON lines, CSV or plain text.

Line N of a file is position N-1 of its items (in CSV: data row N, whatever
lines it spans), so every line yields one value: what stands there, or a
`BadLine`, which keeps the place. Blank lines at the very end are no lines.
Nothing is trimmed or turned into another type: what is deleted is what was
written. Memory is bounded by the longest line that is allowed.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from api_adapters.base import Item
from worker.errors import UnreadableFile
from worker.sources.csv_rows import read_column
from worker.sources.lines import (
    MAX_LINE_BYTES,
    BadLine,
    Line,
    NoItem,
    bounded_lines,
    decode,
    fitting,
    too_long,
    without_end,
)

STANDARD_INPUT = "-"


class FileFormat(StrEnum):
    """How a file is read."""

    JSONL = "jsonl"  #: a JSON string, integer or object a line
    CSV = "csv"  #: a header row, and one column that holds the items, as text
    PLAIN = "plain"  #: an item a line, as text


_FORMAT_BY_SUFFIX = {
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSONL,
    ".csv": FileFormat.CSV,
}


@contextmanager
def open_items(
    name: str,
    *,
    stdin: BinaryIO,
    file_format: FileFormat | None = None,
    column: str | None = None,
) -> Iterator[Iterator[Line]]:
    """Open a file, or standard input for `-`, and read its items as they are asked for.

    Raises:
        UnreadableFile: at once, if there is no such file or column, or later,
            if reading fails; the message names the file.
    """
    is_stdin = name == STANDARD_INPUT
    chosen = choose_format(name, given=file_format, column=column)
    try:
        if is_stdin:
            yield read_items(stdin, file_format=chosen, column=column)
            return
        with _open(Path(name)) as stream:
            yield read_items(stream, file_format=chosen, column=column)
    except UnreadableFile as error:
        raise UnreadableFile(f"{'standard input' if is_stdin else name}: {error}") from error


def choose_format(name: str, *, given: FileFormat | None, column: str | None) -> FileFormat:
    """What was asked for, else by the name's ending, else CSV if a column was named.

    Standard input is plain text: a guess from its first bytes would read a list
    of names as something else because the first one begins with a quote.
    """
    if given is not None:
        return given
    otherwise = FileFormat.PLAIN if column is None else FileFormat.CSV
    return _FORMAT_BY_SUFFIX.get(Path(name).suffix.lower(), otherwise)


def read_items(
    stream: BinaryIO, *, file_format: FileFormat, column: str | None = None
) -> Iterator[Line]:
    """Read items from a stream of bytes; `column` is for CSV, which needs it.

    Raises:
        UnreadableFile: there is no such column, or reading fails.
    """
    if file_format is FileFormat.CSV:
        return read_column(stream, column=column)
    if column is not None:
        raise UnreadableFile(f"a column is for CSV, and this is read as {file_format}")
    return _each_line(stream, _from_json if file_format is FileFormat.JSONL else str)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error


def _each_line(stream: BinaryIO, read: Callable[[str], Item]) -> Iterator[Line]:
    number = blanks = 0
    for line in bounded_lines(stream, max_bytes=MAX_LINE_BYTES):
        if line is not None and not line.strip():
            blanks += 1
            continue
        # Only now is it known that these were not the end of the file.
        for blank in range(1, blanks + 1):
            yield BadLine(number + blank, "an empty line")
        number, blanks = number + blanks + 1, 0
        try:
            if line is None:
                raise too_long(MAX_LINE_BYTES)
            yield fitting(read(decode(without_end(line))))
        except NoItem as reason:
            yield BadLine(number, str(reason))


def _from_json(text: str) -> Item:
    """Read one line of JSON; numbers and lone surrogates stay what they are."""
    try:
        value = _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise NoItem(f"not JSON: {error.msg} (character {error.colno})") from error
    except RecursionError as error:
        raise NoItem("nested too deeply") from error
    except ValueError as error:
        # Python reads a limited number of digits; JSON's own errors are above.
        raise NoItem("a number of too many digits") from error
    # By type, because True is an int.
    if type(value) in {str, int, dict}:
        item: Item = value
        return item
    raise NoItem(f"expected a string, an integer or an object, found {_NAMES[type(value)]}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NoItem("an object that has a key twice")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NoItem("a number that is too large")
    return value


def _no_constant(_text: str) -> float:
    raise NoItem("NaN and Infinity are not JSON")


_JSON = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_constant=_no_constant
)
_NAMES = {float: "a fraction", bool: "true or false", type(None): "null", list: "a list"}
