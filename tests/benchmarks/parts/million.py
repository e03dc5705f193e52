"""A million items in calls of 100 and of 1,000, ours and the peers in turns."""

from tests.benchmarks.bench import Bench, available
from tests.benchmarks.contest import run_ours, run_peer
from tests.benchmarks.peers.base import BARE_LOOP, CHORD, DRAMATIQ, PER_ITEM

MILLION = 1_000_000
#: A million single tasks would keep everybody waiting for the better part of an hour.
SHARE_PER_ITEM = 0.01


def hundreds(bench: Bench) -> None:
    """In calls of 100."""
    items = bench.items(MILLION, size=100)
    for _ in bench.rounds("hundreds"):
        with bench.store() as url:
            turn = run_ours(items, size=100, store_url=url, workers=bench.workers)
            turn.note(bench, "hundreds", "ours")
        turn = run_ours(items, size=100, store_url=None, workers=bench.workers)
        turn.note(bench, "hundreds", "ours_on_sqlite")
        for peer in available(DRAMATIQ, CHORD):
            run_peer(peer, items, size=100).note(bench, "hundreds", peer.name)
        for peer in available(PER_ITEM):
            few = bench.items(int(MILLION * SHARE_PER_ITEM))
            run_peer(peer, few, size=1).note(bench, "hundreds", peer.name)


def thousands(bench: Bench) -> None:
    """In calls of 1,000."""
    items = bench.items(MILLION, size=1_000)
    for _ in bench.rounds("thousands"):
        with bench.store() as url:
            turn = run_ours(items, size=1_000, store_url=url, workers=bench.workers)
            turn.note(bench, "thousands", "ours")
        for peer in available(DRAMATIQ, BARE_LOOP):
            run_peer(peer, items, size=1_000).note(bench, "thousands", peer.name)
