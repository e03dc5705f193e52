"""`demo`: everything at once, for real, on practice servers that also misbehave."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from worker.assembly import Deployment, open_deployment, read_places
from worker.cli.ends import Exit, fail, say
from worker.cli.following import EVERY, describe, progress_bar, tally_lines
from worker.cli.jobs import rows_of
from worker.cli.monitors import Monitor, faults_of_ledger
from worker.cli.running import ALONE, GRACE, START_TIMEOUT
from worker.cli.submitting import client_of
from worker.embedded.commands import child_environ, clock_command, worker_command
from worker.embedded.processes import Processes
from worker.embedded.valkey import Valkey
from worker.environment import CONFIGURATION, DATA_DIR, make_data_dir
from worker.job import JobId, JobStatus

#: What each monitor does wrong, how often: see api_adapters/fakes/faults.py.
MONITORS = {
    "lobby": "lost/37,busy:1/61,expired@50,omitted/43",
    "garage": "busy/53,error/41,cut/47,truncated/59,shuffled/7",
}

PASSWORD = "DELETIONS_DEMO_PASSWORD"  # noqa: S105 (a variable's name)


def demo(
    items: Annotated[
        int, typer.Option(min=100, help="That are there, over all monitors.")
    ] = 24_000,
) -> None:
    """Practice servers, thousands of items, real workers, the report."""
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deletions-")))
        say(
            f"starting {len(MONITORS)} practice monitors that misbehave, "
            "Valkey, workers and a clock"
        )
        monitors = {
            name: stack.enter_context(
                Monitor(name, items=items // len(MONITORS), seed=number, misbehave=misbehave)
            )
            for number, (name, misbehave) in enumerate(MONITORS.items(), start=1)
        }
        deployment = stack.enter_context(_working(folder, monitors))
        jobs = _submit(deployment, monitors)
        ended = _follow(deployment, jobs)
        for status in ended:
            for line in tally_lines(status):
                typer.echo(line)
        faults = _compare(deployment, monitors, jobs)
    typer.echo(f"in {time.monotonic() - began:.1f} s, starting and stopping included")
    if faults:
        fail("\n".join(faults[:20]), Exit.SOME_NOT)


@contextmanager
def _working(folder: Path, monitors: dict[str, Monitor]) -> Iterator[Deployment]:
    """A deployment of its own in an empty folder, with real workers and a clock."""
    configuration = folder / "deletions.toml"
    configuration.write_text("\n".join(map(_target, monitors.values())), encoding="utf-8")
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DELETIONS_")},
        CONFIGURATION: str(configuration),
        DATA_DIR: str(folder / "data"),
    }
    for monitor in monitors.values():
        given[PASSWORD] = monitor.settings["password"]
    places = read_places(given)
    with Valkey(make_data_dir(places.data_dir)):
        deployment = open_deployment(places)
        processes = Processes(places.data_dir, environ=child_environ(given, places))
        try:
            for number in range(1, (os.cpu_count() or 1) + 1):
                processes.start(worker_command(number, *ALONE))
            processes.start(clock_command(places.data_dir))
            yield deployment
        finally:
            processes.stop(grace=GRACE)
            deployment.close()


def _target(monitor: Monitor) -> str:
    """One monitor as a target: each of them is a backend of its own."""
    return f"""
[targets.{monitor.name}]
adapter = "bas_ip"
base_url = "{monitor.base_url}"
username = "{monitor.settings["username"]}"
password = {{ env = "{PASSWORD}" }}
"""


def _submit(deployment: Deployment, monitors: dict[str, Monitor]) -> dict[str, JobId]:
    """One job a monitor, through the public tasks."""
    jobs = {}
    with client_of(deployment, timeout=START_TIMEOUT) as client:
        for name, monitor in monitors.items():
            jobs[name] = JobId(str(uuid4()))
            client.submit(name, iter(monitor.lot.asked), job=jobs[name], requested_by="demo")
    return jobs


def _follow(deployment: Deployment, jobs: dict[str, JobId]) -> list[JobStatus]:
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
    deployment: Deployment, monitors: dict[str, Monitor], jobs: dict[str, JobId]
) -> list[str]:
    """Hold the report against what the monitors themselves say."""
    faults: list[str] = []
    number = 0
    for name, monitor in monitors.items():
        count, found = faults_of_ledger(monitor, rows_of(deployment.store, jobs[name], None))
        number += count
        faults += found
    if not faults:
        typer.echo(f"{number:,} outcomes agree with the monitors' own ledgers, item by item")
    return faults


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)
