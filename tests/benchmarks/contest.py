"""One contestant's turn: so many items in calls of one size, alone on fresh ground."""

from dataclasses import asdict, dataclass

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.children import ChildFailed
from tests.benchmarks.link_ids import link_ids
from tests.benchmarks.ours import Ours, monitor_target
from tests.benchmarks.peers.base import BROKER_URL, DATABASE, DELETE_URL, IN_FLIGHT, Peer
from tests.benchmarks.stage import Monitor, Stage

TARGET = "monitor"
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Turn:
    """What it took."""

    seconds: float
    #: The most memory that any one worker process, Redis and the submitter had.
    worker_mib: float
    redis_mib: float
    submitter_mib: float
    item_us: float

    def note(self, bench: Bench, part: str, contestant: str) -> None:
        """Add it to what was seen."""
        say(f"  {contestant} {self.seconds:.2f} s")
        for name, value in asdict(self).items():
            bench.note(f"{part}.{contestant}.{name}", value)


def patience(items: int) -> float:
    """Seconds after which a turn is broken off."""
    return 180 + items / 400


def run_ours(items: int, *, size: int, store_url: str | None, workers: int) -> Turn:
    """Ours, from the first byte of the submission until the job has ended, by the store's clock."""
    with Stage() as stage:
        monitor = stage.open_monitor()
        targets = {TARGET: monitor_target(monitor, size=size, in_flight=IN_FLIGHT)}
        with Ours(stage, targets=targets, store_url=store_url, workers=workers) as ours:
            ours.warm_up(TARGET, list(link_ids(WARM_UP, first=items)))
            monitor.reset()
            sent = ours.submit(TARGET, items=items, seconds=patience(items))
            status = ours.settled(sent.job, seconds=patience(items))
            _expect(items, status.tally["deleted"], "items deleted")
            _expect(items, asked_of(monitor), "items asked for")
            assert status.finished_at is not None
            seconds = status.finished_at.timestamp() - sent.began_at
            return Turn(
                seconds=seconds,
                worker_mib=ours.worker_mib,
                redis_mib=stage.redis_mib,
                submitter_mib=sent.peak_mib,
                item_us=seconds / items * 1e6,
            )


def run_peer(peer: Peer, items: int, *, size: int) -> Turn:
    """A peer, from the first message until it knows all outcomes."""
    with Stage() as stage:
        monitor = stage.open_monitor()
        variables = {
            BROKER_URL: stage.broker_url,
            DELETE_URL: f"{monitor.url}/api/v1/contacts/link",
            DATABASE: str(stage.folder / "outcomes.sqlite3"),
        }
        children = stage.children
        workers = [children.start("worker", *peer.worker, **variables)] if peer.worker else []
        options = ("--items", str(items), "--size", str(size))
        driver = children.start_driver(peer.name, *peer.driver, *options, **variables)
        driver.says()
        monitor.reset()
        driver.go()
        told = driver.result(timeout=patience(items), check=children.check)
        _expect(items, told["outcomes"], f"outcomes of {peer.name}")
        return Turn(
            seconds=told["seconds"],
            worker_mib=max((worker.peak_mib for worker in workers), default=0),
            redis_mib=stage.redis_mib,
            submitter_mib=told["peak_mib"],
            item_us=told["seconds"] / items * 1e6,
        )


def asked_of(monitor: Monitor) -> int:
    """How many items the practice server was asked for."""
    asked: int = monitor.ledger()["items"]
    return asked


def _expect(wanted: int, seen: int, what: str) -> None:
    if wanted != seen:
        raise ChildFailed(f"expected {wanted} {what}, found {seen}")
