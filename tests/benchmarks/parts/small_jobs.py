"""Jobs of one item: on an idle service, beside a large job, and ten thousand of them."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from sqlalchemy import make_url

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.children import ChildFailed
from tests.benchmarks.contest import WARM_UP, patience
from tests.benchmarks.link_ids import link_id, link_ids
from tests.benchmarks.ours import Ours, monitor_target
from tests.benchmarks.peers.base import IN_FLIGHT
from tests.benchmarks.stage import Monitor, Stage
from worker.client import DeletionClient

IDLE_JOBS = 500
MILLION = 1_000_000
CROWD, SUBMITTERS = 10_000, 8
LATENCY = 0.1

#: Ids that no other job names.
_APART = 2**31
_READ_AGAIN = 0.002
_LONGEST = 60.0


def single(bench: Bench) -> None:
    """One at a time, with nothing else to do."""
    with bench.store() as url, Stage() as stage:
        targets = {"monitor": _target(stage.open_monitor())}
        with Ours(stage, targets=targets, store_url=url, workers=bench.workers) as ours:
            ours.warm_up("monitor", list(link_ids(WARM_UP)))
            for number in range(bench.items(IDLE_JOBS)):
                # In no step with the looks that every worker takes at the store.
                time.sleep(random.uniform(0, 0.1))
                seconds = _one_job(ours.client, "monitor", link_id(_APART + number))
                bench.note("single.ms", seconds * 1e3)


def beside(bench: Bench) -> None:
    """While a job of a million runs on the same target, and on another."""
    items = bench.items(MILLION, size=100)
    for _ in bench.rounds("beside"):
        with bench.store() as url, Stage() as stage:
            targets = {name: _target(stage.open_monitor()) for name in ("same", "other")}
            with Ours(stage, targets=targets, store_url=url, workers=bench.workers) as ours:
                for name in targets:
                    ours.warm_up(name, list(link_ids(WARM_UP, first=items)))
                large = ours.submit("same", items=items, seconds=patience(items)).job
                _sample(bench, ours, large, list(targets))


def crowd(bench: Bench) -> None:
    """Many at once, on a quick backend, and on a slow one that takes a thousand a call."""
    for _ in bench.rounds("crowd"):
        _crowd(bench, "crowd", latency=0, size=100)
        _crowd(bench, "crowd.sharing", latency=LATENCY, size=1_000)


def _sample(bench: Bench, ours: Ours, large: str, targets: list[str]) -> None:
    """Submit one-item jobs to both targets until the large one has ended."""

    def keep_asking(number: int, target: str) -> list[float]:
        with ours.open_client() as client:
            seen: list[float] = []
            while not seen or not client.status(large).is_final:
                link = link_id(_APART + 2 * len(seen) + number)
                seen.append(_one_job(client, target, link))
            return seen

    with ThreadPoolExecutor(len(targets)) as pool:
        for target, seen in zip(
            targets, pool.map(keep_asking, range(len(targets)), targets), strict=True
        ):
            say(f"  {target}: {len(seen)} jobs, at most {max(seen):.2f} s")
            for seconds in seen:
                bench.note(f"beside.{target}.seconds", seconds)


def _one_job(client: DeletionClient, target: str, item: str) -> float:
    """Seconds from the submission of a job until its outcome is read."""
    began = time.monotonic()
    job = client.submit(target, [item])
    while not _is_told(client, job):
        if time.monotonic() - began > _LONGEST:
            raise ChildFailed(f"a job of one item on {target} took longer than {_LONGEST:.0f} s")
        time.sleep(_READ_AGAIN)
    return time.monotonic() - began


def _is_told(client: DeletionClient, job: str) -> bool:
    """Whether a job of one item has its outcome."""
    return any(outcome.verdict for outcome in client.results(job))


def _crowd(bench: Bench, part: str, *, latency: float, size: int) -> None:
    """Have several processes submit their share at once; until the last outcome is stored."""
    share = bench.items(CROWD // SUBMITTERS)
    wanted = share * SUBMITTERS
    with bench.store() as url, Stage() as stage:
        monitor = stage.open_monitor()
        targets = {"monitor": _target(monitor, size=size)}
        with Ours(stage, targets=targets, store_url=url, workers=bench.workers) as ours:
            ours.warm_up("monitor", list(link_ids(WARM_UP, first=_APART)))
            monitor.reset(latency=latency)
            submitters = [
                ours.start_submitter(
                    "monitor", "--jobs", str(share), "--first", str(number * share)
                )
                for number in range(SUBMITTERS)
            ]
            for submitter in submitters:
                submitter.go()
            check = stage.children.check
            told = [one.result(timeout=patience(wanted) * 2, check=check) for one in submitters]
            decided, last_at = _decided(bench, url, wanted, check)
            calls = monitor.ledger()["calls"]
    seconds = last_at.timestamp() - min(one["began_at"] for one in told)
    say(f"  {part}: {wanted / seconds:.0f} jobs/s, {calls} calls")
    bench.note(f"{part}.jobs_per_second", wanted / seconds)
    bench.note(f"{part}.calls", calls)
    bench.note("crowd.lost", wanted - decided)


def _decided(
    bench: Bench, url: str, wanted: int, check: Callable[[], None]
) -> tuple[int, datetime]:
    """How many outcomes of the crowd are stored, and when the last one came."""
    name = make_url(url).database or ""
    count = "SELECT count(*), max(decided_at) FROM outcomes WHERE verdict = 'deleted'"
    until = time.monotonic() + patience(wanted)
    while True:
        seen, last_at = bench.postgresql.execute(count, database=name)[0]
        # Those of the preparation are not theirs.
        decided = seen - WARM_UP
        if decided >= wanted or time.monotonic() > until:
            return decided, last_at
        check()
        time.sleep(0.5)


def _target(monitor: Monitor, *, size: int = 100) -> dict[str, object]:
    return monitor_target(monitor, size=size, in_flight=IN_FLIGHT)
