"""Reading from a store that holds ten million items."""

import random
import time
from itertools import islice

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.children import Child, ChildFailed
from tests.benchmarks.contest import TARGET, patience
from tests.benchmarks.link_ids import link_id, link_ids
from tests.benchmarks.ours import Ours, monitor_target
from tests.benchmarks.peers.base import IN_FLIGHT
from tests.benchmarks.stage import Stage

JOBS, ITEMS, TENTH = 10, 1_000_000, 100_000
SIZE = 1_000
ASKED = 200
COMMANDS = 5


def stored(bench: Bench) -> None:
    """Fill a store by jobs, then read it in each of the ways."""
    items, tenth = (bench.items(count, size=SIZE) for count in (ITEMS, TENTH))
    with bench.store() as url, Stage() as stage:
        targets = {TARGET: monitor_target(stage.open_monitor(), size=SIZE, in_flight=IN_FLIGHT)}
        with Ours(stage, targets=targets, store_url=url, workers=bench.workers) as ours:
            say("stored: filling the store")
            jobs = [_fill(ours, items, first=number * items) for number in range(JOBS)]
            small = _fill(ours, tenth, first=JOBS * items)
            _ask_for_items(bench, ours, JOBS * items)
            _read_pages(bench, ours, jobs[0], items)
            for _ in bench.rounds("stored"):
                _read_by_command(bench, ours, "tenth", small, tenth)
                rate = _read_by_command(bench, ours, "million", jobs[0], items)
                bench.note("stored.rows_per_second", rate)


def _fill(ours: Ours, items: int, *, first: int) -> str:
    """Have a job done; its id."""
    job = ours.client.submit(TARGET, link_ids(items, first=first))
    ours.settled(job, seconds=patience(items))
    return job


def _ask_for_items(bench: Bench, ours: Ours, count: int) -> None:
    """Ask what happened to some of the items, by task and by command."""
    for _ in range(bench.items(ASKED)):
        item = link_id(random.randrange(count))
        began = time.monotonic()
        history = ours.client.item(TARGET, item)
        bench.note("stored.item_ms", (time.monotonic() - began) * 1e3)
        if [job["verdict"] for job in history["jobs"]] != ["deleted"]:
            raise ChildFailed(f"expected one outcome of {item}, found {history}")
    for _ in range(bench.items(COMMANDS)):
        began = time.monotonic()
        _wait(ours.start_command("item", TARGET, link_id(random.randrange(count))), seconds=60)
        bench.note("stored.command_ms", (time.monotonic() - began) * 1e3)


def _read_pages(bench: Bench, ours: Ours, job: str, items: int) -> None:
    """Read every page of a job with the client."""
    outcomes = ours.client.results(job)
    for _ in range(items // SIZE):
        began = time.monotonic()
        found = sum(1 for _ in islice(outcomes, SIZE))
        bench.note("stored.page_ms", (time.monotonic() - began) * 1e3)
        if found != SIZE:
            raise ChildFailed(f"expected a page of {SIZE} rows, found {found}")


def _read_by_command(bench: Bench, ours: Ours, name: str, job: str, items: int) -> float:
    """Write a job's outcomes to a file; rows a second, the start of the process included."""
    began = time.monotonic()
    command = ours.start_command("results", job)
    bench.note(f"stored.{name}.command_mib", _wait(command, seconds=patience(items)))
    seconds = time.monotonic() - began
    with command.out.open("rb") as lines:
        found = sum(1 for _ in lines)
    if found != items:
        raise ChildFailed(f"expected {items} rows, found {found}")
    command.out.unlink()
    say(f"  {name}: {items / seconds:,.0f} rows/s")
    return items / seconds


def _wait(command: Child, *, seconds: float) -> float:
    """Wait for a command's end; the most memory that it had, give or take its last moment."""
    # The kernel's count only grows, so that the last look has the peak.
    looks = (command.peak_mib for _ in command.ending(timeout=seconds))
    return max(looks, default=0)
