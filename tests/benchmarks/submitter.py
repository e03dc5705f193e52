"""An application that hands over deletions: `python -m tests.benchmarks.submitter TARGET`.

It says when it is ready, waits for a line, and tells what it did.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable

from tests.benchmarks.link_ids import link_ids
from tests.benchmarks.measures import own_peak_mib
from worker.client import DeletionClient


def main() -> None:
    """Submit one job of many items, or many jobs of one item."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.submitter")
    parser.add_argument("target")
    parser.add_argument("--items", type=int, help="of one job")
    parser.add_argument("--jobs", type=int, help="of one item each")
    parser.add_argument("--first", type=int, default=0, help="the number of the first item")
    parser.add_argument("--kind", choices=("ids", "numbers"), default="ids", help="of the items")
    given = parser.parse_args()
    count = given.items or given.jobs
    items: Iterable[str | int] = link_ids(count, first=given.first)
    if given.kind == "numbers":
        items = range(given.first, given.first + count)
    _say({"ready": True})
    sys.stdin.readline()
    with DeletionClient() as client:
        began_at = time.time()
        if given.items:
            jobs = [client.submit(given.target, items)]
        else:
            jobs = [client.submit(given.target, [item]) for item in items]
        ended_at = time.time()
    peak = own_peak_mib()
    _say({"jobs": jobs, "began_at": began_at, "ended_at": ended_at, "peak_mib": peak})


def _say(told: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


main()
