"""A slow backend: whether calls are kept in flight."""

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.contest import TARGET, WARM_UP, patience
from tests.benchmarks.link_ids import link_ids
from tests.benchmarks.ours import Ours, monitor_target
from tests.benchmarks.stage import Stage
from worker.slots import KEPT_FOR_CONTROL, KEPT_FOR_OTHERS

ITEMS, SIZE = 100_000, 100
LATENCY = 0.1
#: That one target may use.
SLOTS = 32


def latency(bench: Bench) -> None:
    """From the practice server's first call to the last record in the store."""
    items = bench.items(ITEMS, size=SIZE)
    threads = SLOTS // bench.workers + KEPT_FOR_CONTROL + KEPT_FOR_OTHERS
    size_of_pool = ("-c", str(threads))
    for _ in bench.rounds("latency"):
        with bench.store() as url, Stage() as stage:
            # As slow from the start as it stays: known for what it is, as targets are.
            monitor = stage.open_monitor(latency=LATENCY)
            targets = {TARGET: monitor_target(monitor, size=SIZE, in_flight=SLOTS)}
            with Ours(
                stage,
                targets=targets,
                store_url=url,
                workers=bench.workers,
                worker_options=size_of_pool,
            ) as ours:
                ours.warm_up(TARGET, list(link_ids(WARM_UP, first=items)))
                monitor.reset(latency=LATENCY)
                sent = ours.submit(TARGET, items=items, seconds=patience(items))
                status = ours.settled(sent.job, seconds=patience(items))
                ledger = monitor.ledger()
        assert status.finished_at is not None
        seconds = status.finished_at.timestamp() - ledger["first_call_at"]
        # Less than a full round of calls takes a whole latency.
        ideal = max(items / SIZE / SLOTS, 1) * LATENCY
        say(f"  {seconds:.2f} s of {ideal:.2f}, {ledger['calls']} calls")
        bench.note("latency.ours.seconds", seconds)
        bench.note("latency.ideal.seconds", ideal)
