"""Lines of a file in bounded memory, and what is said of one that holds no item."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from api_adapters.base import Item
from worker.errors import UnreadableFile
from worker.item import MAX_ITEM_BYTES, is_too_deep, size_of

#: As much as an item may have.
MAX_LINE_BYTES = MAX_ITEM_BYTES
#: A text so short is no item that is too large, whatever its letters are in JSON.
_SURELY_FITS = MAX_ITEM_BYTES // 6 - 2

_CHUNK = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line (in CSV a data row) that holds no item; its position is `number - 1`.

    The reason does not repeat what stands there.
    """

    number: int
    reason: str


Line = Item | BadLine


class NoItem(Exception):
    """What stands there is no item; the message says why."""


def bounded_lines(stream: BinaryIO, *, max_bytes: int) -> Iterator[bytes | None]:
    """Every line with its end; `None` stands for one that is longer than `max_bytes`.

    Only a line feed ends a line. A byte order mark is left out.

    Raises:
        UnreadableFile: reading fails, or the file is UTF-16.
    """
    try:
        line = _next_line(stream, max_bytes=max_bytes)
        if line is not None and line.startswith(_OTHER_BOMS):
            raise UnreadableFile("expected UTF-8, found UTF-16")
        if line is not None and line.startswith(_BOM):
            # A mark and nothing else is an empty file, not an empty line.
            line = line.removeprefix(_BOM) or _next_line(stream, max_bytes=max_bytes)
        while line != b"":
            yield line
            line = _next_line(stream, max_bytes=max_bytes)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error


def without_end(line: bytes) -> bytes:
    r"""A line's content.

    >>> without_end(b"7 \r\n")
    b'7 '
    """
    return line.removesuffix(b"\n").removesuffix(b"\r")


def decode(line: bytes) -> str:
    """A line as text.

    Raises:
        NoItem: it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise NoItem(f"not UTF-8 (byte {error.start + 1} of the line)") from error


def fitting(item: Item) -> Item:
    """An item that the door takes: one that it refuses would cost all the others.

    Raises:
        NoItem: it is too large as JSON, or nested too deeply.
    """
    if isinstance(item, str) and len(item) <= _SURELY_FITS:
        return item
    if is_too_deep(item):
        raise NoItem("nested too deeply")
    if size_of(item) > MAX_ITEM_BYTES:
        raise NoItem(f"longer than {MAX_ITEM_BYTES:,} bytes as JSON")
    return item


def too_long(limit: int) -> NoItem:
    """What is said of a line, row or cell that is over the limit."""
    return NoItem(f"longer than {limit:,} bytes")


def _next_line(stream: BinaryIO, *, max_bytes: int) -> bytes | None:
    """The next line, empty at the end of the file, `None` if it is too long."""
    line = stream.readline(max_bytes + 2)
    if len(line) <= max_bytes or len(without_end(line)) <= max_bytes:
        return line
    rest = line
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(_CHUNK)
    return None
