"""What an item costs, and what the processes take, as the job grows."""

from tests.benchmarks.bench import Bench
from tests.benchmarks.contest import run_ours

SIZES = {"tenth": 100_000, "million": 1_000_000, "millions": 5_000_000}


def growth(bench: Bench) -> None:
    """Ours alone, each size on fresh ground."""
    for _ in bench.rounds("growth"):
        for name, count in SIZES.items():
            with bench.store() as url:
                items = bench.items(count, size=100)
                turn = run_ours(items, size=100, store_url=url, workers=bench.workers)
            turn.note(bench, "growth", name)
