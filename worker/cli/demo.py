"""`demo`: everything at once, for real, on practice servers that also misbehave."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from uuid import uuid4

import typer

from worker.cli.ends import Exit, fail, say
from worker.cli.following import EVERY, describe, progress_bar, tally_lines
from worker.cli.jobs import rows_of
from worker.cli.places import opened_at
from worker.cli.running import ALONE, GRACE, START_TIMEOUT
from worker.cli.submitting import client_of
from worker.embedded.commands import child_environ, clock_command, worker_command
from worker.embedded.processes import Processes
from worker.embedded.valkey import Valkey
from worker.environment import CONFIGURATION, DATA_DIR, make_data_dir, read_environment
from worker.job import JobId, JobStatus

if TYPE_CHECKING:
    from worker.assembly import Deployment

#: What each monitor does wrong, how often: see api_adapters/fakes/faults.py.
MONITORS = {
    "lobby": "lost/37,busy:1/61,expired@50,omitted/43",
    "garage": "busy_date:1/53,error/41,cut/47,truncated/59,shuffled/7",
}


class Backend(Protocol):
    """What the demonstration deletes from, and can be held against."""

    name: str

    @property
    def asked(self) -> list[Any]:
        """The items that are submitted."""
        ...

    @property
    def configuration(self) -> str:
        """The backend as a target."""
        ...

    def faults(self, outcomes: Iterator[dict[str, Any]]) -> tuple[int, list[str]]:
        """Hold outcomes against the backend itself; how many, and what differs."""
        ...


def demo(
    items: Annotated[int, typer.Option(min=100, help="On the monitors, together.")] = 24_000,
    rows: Annotated[int, typer.Option(min=100, help="In the table.")] = 100_000,
) -> None:
    """Practice servers, thousands of items, real workers, the report."""
    from worker.cli.monitors import Monitor
    from worker.cli.visitors import VisitorTable

    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deletions-")))
        say(
            f"starting {len(MONITORS)} practice monitors that misbehave, a table of {rows:,} rows, "
            "Valkey, workers and a clock"
        )
        backends: list[Backend] = [
            stack.enter_context(
                Monitor(name, items=items // len(MONITORS), seed=number, misbehave=misbehave)
            )
            for number, (name, misbehave) in enumerate(MONITORS.items(), start=1)
        ]
        backends.append(VisitorTable(folder, rows=rows, seed=1))
        deployment = stack.enter_context(_working(folder, backends))
        jobs = _submit(deployment, backends)
        ended = _follow(deployment, jobs)
        for status in ended:
            for line in tally_lines(status):
                typer.echo(line)
        faults = _compare(deployment, backends, jobs)
    typer.echo(f"in {time.monotonic() - began:.1f} s, starting and stopping included")
    if faults:
        fail("\n".join(faults[:20]), Exit.SOME_NOT)


@contextmanager
def _working(folder: Path, backends: list[Backend]) -> Iterator["Deployment"]:
    """A deployment of its own in an empty folder, with real workers and a clock."""
    from api_adapters.fakes.bas_ip import PASSWORD as PRACTICE_PASSWORD
    from worker.cli.monitors import PASSWORD

    configuration = folder / "deletions.toml"
    targets = [backend.configuration for backend in backends]
    configuration.write_text("\n".join(targets), encoding="utf-8")
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DELETIONS_")},
        CONFIGURATION: str(configuration),
        DATA_DIR: str(folder / "data"),
        PASSWORD: PRACTICE_PASSWORD,
    }
    places = read_environment(given, configuration=configuration, cwd=folder)
    with Valkey(make_data_dir(places.data_dir)), opened_at(places) as deployment:
        processes = Processes(places.data_dir, environ=child_environ(given, places))
        try:
            for number in range(1, (os.cpu_count() or 1) + 1):
                processes.start(worker_command(number, *ALONE))
            processes.start(clock_command(places.data_dir))
            yield deployment
        finally:
            processes.stop(grace=GRACE)


def _submit(deployment: "Deployment", backends: list[Backend]) -> dict[str, JobId]:
    """One job a backend, through the public tasks."""
    jobs = {}
    with client_of(deployment, timeout=START_TIMEOUT) as client:
        for one in backends:
            jobs[one.name] = JobId(str(uuid4()))
            client.submit(one.name, iter(one.asked), job=jobs[one.name], requested_by="demo")
    return jobs


def _follow(deployment: "Deployment", jobs: dict[str, JobId]) -> list[JobStatus]:
    """Show every job until all have ended."""
    with progress_bar() as bar:
        rows = {job: bar.add_task(name, total=None) for name, job in jobs.items()}
        while True:
            found = [deployment.store.status(job) for job in jobs.values()]
            for status in found:
                bar.update(
                    rows[status.job.id],
                    total=status.job.items or None,
                    completed=status.job.items - status.pending,
                    description=describe(status),
                )
            if all(status.job.is_final for status in found):
                return found
            time.sleep(EVERY.total_seconds())


def _compare(
    deployment: "Deployment", backends: list[Backend], jobs: dict[str, JobId]
) -> list[str]:
    """Hold the report against what the backends themselves say."""
    faults: list[str] = []
    number = 0
    for one in backends:
        count, found = one.faults(rows_of(deployment.store, jobs[one.name], None))
        number += count
        faults += found
    if not faults:
        typer.echo(f"{number:,} outcomes agree with what is left on the monitors and in the table")
    return faults


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)
