"""Our side: a deployment as a user runs it in production, and jobs that are handed to it.

with Stage() as stage, Ours(stage, targets={"monitor": ...}, store_url=url, workers=2) as ours:
    sent = ours.submit("monitor", items=1_000_000)
    status = ours.settled(sent.job)
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.benchmarks.children import Child, waiting
from tests.benchmarks.stage import Monitor, Stage
from tests.opened import Opened
from worker.client import DeletionClient, JobStatus, NoAnswer, Refused
from worker.embedded.commands import CELERY
from worker.environment import BROKER_URL, CONFIGURATION, DATA_DIR, STORE_URL

COMMAND = Path(sys.executable).with_name("deletions")

_TOKEN = "BENCH_TOKEN"
_STARTING_TAKES = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What a submitter did."""

    job: str
    #: Seconds since 1970.
    began_at: float
    ended_at: float
    peak_mib: float


def monitor_target(monitor: Monitor, *, size: int, in_flight: int) -> dict[str, Any]:
    """A practice server as a target."""
    return {
        "adapter": "bas_ip",
        "base_url": f"{monitor.url}/api/v1",
        "token": {"env": _TOKEN},
        "max_items_per_call": size,
        "max_in_flight": in_flight,
    }


class Ours(Opened):
    """Worker processes and a store; use it in a `with` statement, from one thread."""

    def __init__(
        self,
        stage: Stage,
        *,
        targets: Mapping[str, Mapping[str, Any]],
        store_url: str | None,
        workers: int,
        worker_options: Sequence[str] = (),
    ) -> None:
        """Without a `store_url` the store is a SQLite file."""
        self._stage = stage
        self._targets = targets
        self._number_of_workers = workers
        self._worker_options = worker_options
        super().__init__()
        self.data_dir = stage.folder / "data"
        self._variables = {
            CONFIGURATION: str(stage.folder / "deletions.toml"),
            DATA_DIR: str(self.data_dir),
            BROKER_URL: stage.broker_url,
            _TOKEN: "practice",
        }
        if store_url is not None:
            self._variables[STORE_URL] = store_url
        self._workers: list[Child] = []

    def _open(self, opened: ExitStack) -> None:
        self.data_dir.mkdir(mode=0o700)
        tables = [_table(name, lines) for name, lines in self._targets.items()]
        Path(self._variables[CONFIGURATION]).write_text("\n\n".join(tables) + "\n")
        for number in range(1, self._number_of_workers + 1):
            self._workers.append(self._start_worker(number))
        self.client = opened.enter_context(self.open_client())
        self._wait_for_an_answer()

    @property
    def worker_mib(self) -> float:
        """The most memory that any one worker process has had at once."""
        return max(worker.peak_mib for worker in self._workers)

    def open_client(self) -> DeletionClient:
        """A client of its own; to be closed."""
        return DeletionClient(self._stage.broker_url, timeout=timedelta(seconds=60))

    def warm_up(self, target: str, items: Sequence[Any]) -> None:
        """Have a small job done, so that connections are open and adapters are built."""
        self.settled(self.client.submit(target, items), seconds=60)

    def start_submitter(self, target: str, *options: str) -> Child:
        """Start a process that submits when it is told to go."""
        program = (sys.executable, "-m", "tests.benchmarks.submitter", target, *options)
        child = self._stage.children.start_driver("submitter", *program, **self._variables)
        child.says()
        return child

    def submit(self, target: str, *options: str, items: int, seconds: float) -> Sent:
        """Have another process stream a job; returns when all of it is taken in."""
        child = self.start_submitter(target, "--items", str(items), *options)
        child.go()
        told = child.result(timeout=seconds, check=self._stage.children.check)
        return Sent(told["jobs"][0], told["began_at"], told["ended_at"], told["peak_mib"])

    def settled(self, job: str, *, seconds: float) -> JobStatus:
        """How a job has ended. Raises NotEnded, ChildFailed."""
        return self.client.wait(
            job,
            timeout=timedelta(seconds=seconds),
            progress=lambda _: self._stage.children.check(),
        )

    def start_command(self, *arguments: str) -> Child:
        """Start the command line."""
        return self._stage.children.start_driver(
            "command", str(COMMAND), *arguments, **self._variables
        )

    def _start_worker(self, number: int) -> Child:
        command = (*CELERY, "worker", "-n", f"worker{number}@%h", *self._worker_options)
        return self._stage.children.start(f"worker{number}", *command, **self._variables)

    def _wait_for_an_answer(self) -> None:
        with DeletionClient(self._stage.broker_url, timeout=timedelta(seconds=1)) as client:
            for _ in waiting(seconds=_STARTING_TAKES, check=self._stage.children.check):
                try:
                    client.status(str(uuid4()))
                except Refused:
                    return
                except NoAnswer:
                    continue


def _table(name: str, lines: Mapping[str, Any]) -> str:
    return "\n".join([f"[targets.{name}]", *(f"{key} = {_toml(lines[key])}" for key in lines)])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)
