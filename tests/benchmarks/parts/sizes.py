"""How fast everybody is, and how much memory it takes, as jobs grow: for the pictures."""

from tests.benchmarks.bench import Bench, available
from tests.benchmarks.contest import run_ours, run_peer
from tests.benchmarks.peers.base import BARE_LOOP, CHORD, DRAMATIQ

SIZES = (1_000, 10_000, 100_000, 1_000_000)


def sizes(bench: Bench) -> None:
    """In calls of 100, ours and the peers in turns."""
    for _ in bench.rounds("sizes"):
        for count in SIZES:
            items = bench.items(count, size=100)
            with bench.store() as url:
                turn = run_ours(items, size=100, store_url=url, workers=bench.workers)
                turn.note(bench, f"sizes.{count}", "ours")
            for peer in available(DRAMATIQ, CHORD, BARE_LOOP):
                run_peer(peer, items, size=100).note(bench, f"sizes.{count}", peer.name)
