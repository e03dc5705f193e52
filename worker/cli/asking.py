"""What is to be deleted, as a command line says it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.ends import Exit, fail, say
from worker.sources.file import STANDARD_INPUT, FileFormat, open_items
from worker.sources.lines import BadLine

FromOption = Annotated[
    str | None, typer.Option("--from", metavar="FILE", help="Items of a file; - is standard input.")
]
FormatOption = Annotated[
    FileFormat | None, typer.Option("--format", help="Of the file; else by its name's ending.")
]
ColumnOption = Annotated[
    str | None, typer.Option("--column", help="The column of a CSV file that holds the items.")
]
QueryOption = Annotated[
    str | None,
    typer.Option("--query", metavar="JSON", help="What to find, where the target allows it."),
]
ItemsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ITEM]...", help="Items as strings.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Count and freeze, send nothing.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Count what was only accepted as not gone.")
]

#: A file of some 10,000 ids.
SMALL_FILE_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Items given one by one, a file of them, or a query."""

    items: tuple[str, ...]
    file: str | None
    file_format: FileFormat | None
    column: str | None
    query: dict[str, Any] | None

    @contextmanager
    def opened(self) -> Iterator[Iterator[Any]]:
        """The items, streamed; a bad line is told and leaves its place empty.

        An empty place is refused at the door, so that line N of a file stays
        position N-1 of its items. Raises UnreadableFile.
        """
        if self.file is None:
            yield iter(self.items)
            return
        with open_items(
            self.file, stdin=sys.stdin.buffer, file_format=self.file_format, column=self.column
        ) as lines:
            yield (_value(line) for line in lines)

    def check(self) -> None:
        """Find out beforehand that a file cannot be read. Raises UnreadableFile.

        A pipe is left alone: what was read of it would be lost.
        """
        if self.file is None or self.file == STANDARD_INPUT:
            return
        path = Path(self.file)
        if path.is_file() or path.is_dir() or not path.exists():
            with self.opened():
                pass

    @property
    def is_small(self) -> bool:
        """Whether a second worker would hardly have started before all is done."""
        if self.query is not None:
            return False
        if self.file is None:
            return True
        path = Path(self.file)
        return path.is_file() and path.stat().st_size < SMALL_FILE_BYTES

    def described(self) -> str:
        """What it is, for the person who is asked; a file is read for its count."""
        if self.query is not None:
            return "what the query finds"
        if self.file is None:
            return f"{len(self.items):,} items"
        if not Path(self.file).is_file():
            return f"the items of {self.file}"
        with open_items(
            self.file, stdin=sys.stdin.buffer, file_format=self.file_format, column=self.column
        ) as lines:
            return f"{sum(1 for _ in lines):,} items"


def read_wish(
    items: list[str] | None,
    *,
    file: str | None,
    file_format: FileFormat | None,
    column: str | None,
    query: str | None,
) -> Wanted:
    """Check that exactly one of items, file and query is given."""
    if sum((bool(items), file is not None, query is not None)) != 1:
        fail("expected exactly one of: items, --from FILE, --query JSON", Exit.WRONG_USE)
    return Wanted(tuple(items or ()), file, file_format, column, _query(query))


def _query(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        query = json.loads(text)
    except (ValueError, RecursionError) as error:
        fail(f"--query: expected a JSON object: {error}", Exit.WRONG_USE)
    if not isinstance(query, dict):
        fail("--query: expected a JSON object", Exit.WRONG_USE)
    return query


def _value(line: Any) -> Any:
    if isinstance(line, BadLine):
        say(f"line {line.number}: {line.reason}")
        return None
    return line
