"""The table for people, and the same for programs."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.bars import Figures, Judged

_COLUMNS = ("what", "bar", "seen", "n", "")


def as_text(rows: Iterable[Judged]) -> str:
    """One table, in Markdown, whose columns stand under each other."""
    cells = [_COLUMNS, *map(_cells, rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(_COLUMNS))]
    lines = [_line(row, widths) for row in cells]
    rule = "|".join(["", *("-" * (width + 2) for width in widths), ""])
    return "\n".join([lines[0], rule, *lines[1:]])


def write_json(path: Path, rows: Sequence[Judged], figures: Figures, *, given: Any) -> None:
    """Rows, every figure, how it was run and on what kind of machine."""
    document = {
        "given": given,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "rows": [_row(row) for row in rows],
        "figures": figures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _cells(row: Judged) -> tuple[str, ...]:
    return row.bar.what, row.bar.promise, row.seen, str(row.count), row.met.value


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return f"| {' | '.join(cells)} |"


def _row(row: Judged) -> dict[str, Any]:
    return {
        "part": row.bar.part,
        "what": row.bar.what,
        "bar": row.bar.promise,
        "seen": row.seen,
        "value": row.value,
        "absolute": row.absolute,
        "n": row.count,
        "met": row.met.value,
    }
