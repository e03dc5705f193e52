"""The benchmarks run from end to end, so small that their figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.bars import Bar, By, Figures, Is, Met, judge
from tests.benchmarks.bench import available
from tests.benchmarks.contest import Turn, run_ours, run_peer
from tests.benchmarks.measures import percentile
from tests.benchmarks.peers.base import BARE_LOOP, CHORD, DRAMATIQ, PER_ITEM, Peer
from tests.benchmarks.report import as_text
from tests.benchmarks.stage import ROOT
from tests.benchmarks.table import TABLE
from tests.integration.service import need_a_server
from tests.postgres import programs

ITEMS, SIZE = 30, 10

AT_MOST_TWICE = Bar("part", "what", "ours", over="theirs", wanted=Is.AT_MOST, limit=2)
AT_LEAST_NINE = Bar("part", "what", "ours", by=By.LEAST, wanted=Is.AT_LEAST, limit=9)


def need(peer: Peer) -> None:
    """Without its library: skip at home, fail where CI is set."""
    if not available(peer):
        pytest.skip(f"{peer.missing} is not installed")


@pytest.mark.soak
@pytest.mark.parametrize("peer", [CHORD, PER_ITEM, DRAMATIQ, BARE_LOOP], ids=lambda one: one.name)
def test_a_peer_deletes_everything(peer: Peer) -> None:
    need_a_server()
    need(peer)

    turn = run_peer(peer, ITEMS, size=SIZE)

    assert_was_measured(turn, has_workers=bool(peer.worker))


@pytest.mark.soak
def test_ours_deletes_everything() -> None:
    need_a_server()

    turn = run_ours(ITEMS, size=SIZE, store_url=None, workers=1)

    assert_was_measured(turn, has_workers=True)


def assert_was_measured(turn: Turn, *, has_workers: bool) -> None:
    assert 0 < turn.seconds < 60
    assert turn.item_us == pytest.approx(turn.seconds / ITEMS * 1e6)
    assert turn.redis_mib > 1
    assert turn.submitter_mib > 10
    assert (turn.worker_mib > 10) == has_workers


@pytest.mark.soak
@pytest.mark.parametrize("part", ["latency", "beside", "stored", "tables"])
def test_a_part_runs_and_its_rows_are_told(part: str, tmp_path: Path) -> None:
    need_a_server()
    programs()
    told = tmp_path / "told.json"
    smallest = ("--scale", "0.00001", "--runs", "1", "--workers", "1")
    options = (*smallest, "--json", str(told), "--only", "ceiling", part)

    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    rows = json.loads(told.read_text())["rows"]
    assert [row["part"] for row in rows] == [
        bar.part for bar in TABLE if bar.part in {"ceiling", part}
    ]
    assert [row["what"] for row in rows if row["met"] == Met.NOT_MEASURED] == []
    assert all(row["what"] in ended.stdout for row in rows)


@pytest.mark.parametrize(
    ("bar", "figures", "met"),
    [
        (AT_MOST_TWICE, {"ours": [5, 2, 1], "theirs": [1]}, Met.MET),
        (AT_MOST_TWICE, {"ours": [5, 2.1, 1], "theirs": [1]}, Met.MISSED),
        (AT_MOST_TWICE, {"ours": [1]}, Met.NOT_MEASURED),
        (AT_LEAST_NINE, {"ours": [9, 10]}, Met.MET),
        (AT_LEAST_NINE, {"ours": [8.9, 10]}, Met.MISSED),
        (Bar("part", "what", "ours"), {"ours": [1]}, Met.TOLD),
    ],
)
def test_a_bar_is_met_or_missed(bar: Bar, figures: Figures, met: Met) -> None:
    judged = judge(bar, figures)

    assert judged.met is met
    assert met.value in as_text([judged])


def test_a_percentile_is_a_value_that_was_seen() -> None:
    hundred = list(range(1, 101))

    assert [percentile(hundred, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([7], 0.01) == 7
