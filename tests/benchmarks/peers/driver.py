"""Has a peer delete so many items: `python -m tests.benchmarks.peers.driver chord --items 1000`.

It deletes a few by way of preparation, so that connections are open, says that
it is ready, waits for a line, and tells how long the rest took.
"""

import argparse
import importlib
import json
import sys
import time

from tests.benchmarks.link_ids import link_ids
from tests.benchmarks.measures import own_peak_mib


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers.driver")
    parser.add_argument("peer")
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--size", type=int, required=True, help="items in one call")
    given = parser.parse_args()
    purge = importlib.import_module(f"tests.benchmarks.peers.{given.peer}").purge
    purge(link_ids(10, first=given.items), given.size)
    _say({"ready": True})
    sys.stdin.readline()
    began = time.monotonic()
    outcomes = purge(link_ids(given.items), given.size)
    seconds = time.monotonic() - began
    _say({"seconds": seconds, "outcomes": outcomes, "peak_mib": own_peak_mib()})


def _say(told: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


main()
