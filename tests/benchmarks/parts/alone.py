"""The practice server by itself: what it can take must be far above what anybody asks of it."""

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.ceiling import items_per_second
from tests.benchmarks.stage import Stage

CALLS = 20_000


def ceiling(bench: Bench) -> None:
    """In calls of 100 and of 1,000."""
    with Stage() as stage:
        monitor = stage.open_monitor()
        for _ in bench.rounds("ceiling"):
            for name, size in (("hundreds", 100), ("thousands", 1_000)):
                rate = items_per_second(monitor.port, size=size, calls=bench.items(CALLS))
                say(f"  {size} a call: {rate:,.0f} items/s")
                bench.note(f"ceiling.{name}", rate)
