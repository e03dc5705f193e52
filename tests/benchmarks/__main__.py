"""Measure us against what people do today: `python -m tests.benchmarks --scale 0.01`.

Prints one table, and writes it with every figure to a JSON file. Exit code 0:
every bar is met, or it was run at another scale than 1, where bars are shown
and bind nobody; 1: some are not; 2: some could not be measured.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.benchmarks.bars import Judged, Met, judge
from tests.benchmarks.bench import DURABLE, Bench, say
from tests.benchmarks.parts.alone import ceiling
from tests.benchmarks.parts.growth import growth
from tests.benchmarks.parts.latency import latency
from tests.benchmarks.parts.million import hundreds, thousands
from tests.benchmarks.parts.sizes import sizes
from tests.benchmarks.parts.small_jobs import beside, crowd, single
from tests.benchmarks.parts.stored import stored
from tests.benchmarks.parts.tables import tables
from tests.benchmarks.pictures import draw, has_all
from tests.benchmarks.report import as_text, write_json
from tests.benchmarks.table import TABLE
from tests.postgres import PostgresqlServer, programs

Part = Callable[[Bench], None]

#: In the order in which they are run.
PARTS: Mapping[str, Part] = {
    part.__name__: part
    for part in (
        ceiling,
        thousands,
        latency,
        single,
        beside,
        crowd,
        tables,
        stored,
        growth,
        sizes,
        hundreds,
    )
}


def main() -> int:
    """Read the command line, measure, and tell."""
    given = _parser().parse_args()
    postgresql = PostgresqlServer(programs(), **DURABLE)
    bench = Bench(postgresql, runs=given.runs, scale=given.scale, workers=given.workers)
    broken = []
    try:
        postgresql.make()
        postgresql.start()
        for name in given.only:
            broken += _measure(name, bench)
            # After each, since what was seen so far took long to see.
            rows = _tell(given, bench)
        if given.pictures is not None:
            _draw(given, bench)
    finally:
        postgresql.remove()
    print(as_text(rows))  # noqa: T201
    if broken:
        say(f"could not be measured: {', '.join(broken)}")
        return 2
    is_missed = any(row.met in {Met.MISSED, Met.NOT_MEASURED} for row in rows)
    return int(is_missed and given.scale == 1)


def _measure(name: str, bench: Bench) -> list[str]:
    """Run a part; its name if it broke."""
    try:
        PARTS[name](bench)
    # The other parts are worth having.
    except Exception as error:  # noqa: BLE001
        say(f"{name} broke: {type(error).__name__}: {error}")
        return [name]
    return []


def _draw(given: argparse.Namespace, bench: Bench) -> None:
    """Draw, but never over the pictures of a whole run what a smaller one saw."""
    if given.scale == 1 and has_all(bench.figures):
        draw(bench.figures, given.pictures)
    else:
        say("no pictures: not every size of everybody was measured in whole")


def _tell(given: argparse.Namespace, bench: Bench) -> list[Judged]:
    """Judge and write down what was seen."""
    rows = [judge(bar, bench.figures) for bar in TABLE if bar.part in given.only]
    told = {name: value for name, value in vars(given).items() if name not in {"json", "pictures"}}
    write_json(given.json, rows, bench.figures, given=told)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--scale", type=float, default=1, help="share of the items")
    parser.add_argument("--runs", type=int, default=5, help="how often each part is repeated")
    parser.add_argument("--workers", type=int, default=2, help="processes of ours, one a core")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument("--pictures", type=Path, help="draw what a whole `sizes` saw here")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write it")
    return parser


if __name__ == "__main__":
    # As Ctrl-C does: everything is ended and removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    # Without a server for the platform there is nothing to measure.
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        sys.exit(str(missing))
