"""`demo`: everything at once, for real, on practice servers that also misbehave."""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from uuid import uuid4

import typer

from worker.cli.ends import Exit, fail, say
from worker.cli.following import describe, progress_bar, tally_lines
from worker.cli.places import opened_at
from worker.cli.running import ALONE, GRACE, START_TIMEOUT
from worker.cli.submitting import client_of
from worker.embedded.commands import child_environ, clock_command, worker_command
from worker.embedded.processes import Processes
from worker.embedded.valkey import Valkey
from worker.environment import CONFIGURATION, DATA_DIR, make_data_dir, read_environment
from worker.item import Outcome
from worker.job import JobId, JobStatus
from worker.store.base import Store

if TYPE_CHECKING:
    from worker.assembly import Deployment

#: How often the store is asked, for every job: the workers need the processors.
EVERY = timedelta(milliseconds=400)
#: What is read of a report at once.
PAGE_ROWS, PAGE_BYTES = 10_000, 4 * 2**20


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

    @property
    def environment(self) -> Mapping[str, str]:
        """The secrets that its configuration names."""
        ...

    @property
    def trouble(self) -> str:
        """What stood against the deletions, in a line."""
        ...

    def faults(self, outcomes: Iterable[Outcome]) -> tuple[int, list[str]]:
        """Hold outcomes against the backend itself; how many, and what differs."""
        ...


def demo(
    items: Annotated[
        int, typer.Option(min=500, help="On the practice servers, together.")
    ] = 10_000,
    rows: Annotated[int, typer.Option(min=100, help="In the table.")] = 100_000,
) -> None:
    """Practice servers of every vendor, a table, real workers, the report."""
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deletions-")))
        backends = _start_backends(stack, folder, items=items, rows=rows)
        deployment = stack.enter_context(_working(folder, backends))
        jobs = _submit(deployment, backends)
        ended = _follow(deployment, jobs)
        for status, one in zip(ended, backends, strict=True):
            for line in (*tally_lines(status), f"  trouble   {one.trouble}"):
                typer.echo(line)
        faults = _compare(deployment.store, backends, jobs)
    typer.echo(f"in {time.monotonic() - began:.1f} s, starting and stopping included")
    if faults:
        fail("\n".join(faults[:20]), Exit.SOME_NOT)


def _start_backends(stack: ExitStack, folder: Path, *, items: int, rows: int) -> list[Backend]:
    """A practice server of every vendor, and a table."""
    from worker.cli.practice_backend import PracticeBackend
    from worker.cli.vendors import VENDORS
    from worker.cli.visitors import VisitorTable

    say(
        f"starting practice servers that misbehave ({', '.join(VENDORS)}), "
        f"a table of {rows:,} rows, Valkey, workers and a clock"
    )
    # They start side by side; the first look at one waits until it listens.
    servers = [
        stack.enter_context(PracticeBackend(name, vendor, items=items // len(VENDORS), seed=number))
        for number, (name, vendor) in enumerate(VENDORS.items(), start=1)
    ]
    return [*servers, VisitorTable(folder, rows=rows, seed=1)]


@contextmanager
def _working(folder: Path, backends: list[Backend]) -> Iterator["Deployment"]:
    """A deployment of its own in an empty folder, with real workers and a clock."""
    configuration = folder / "deletions.toml"
    targets = [backend.configuration for backend in backends]
    configuration.write_text("\n".join(targets), encoding="utf-8")
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DELETIONS_")},
        CONFIGURATION: str(configuration),
        DATA_DIR: str(folder / "data"),
    }
    for one in backends:
        given.update(one.environment)
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
    ended: dict[JobId, JobStatus] = {}
    with progress_bar() as bar:
        rows = {job: bar.add_task(name, total=None) for name, job in jobs.items()}
        while running := [job for job in rows if job not in ended]:
            for job in running:
                status = deployment.store.status(job)
                bar.update(
                    rows[job],
                    total=status.job.items or None,
                    completed=status.job.items - status.pending,
                    description=describe(status),
                )
                if status.job.is_final:
                    ended[job] = status
            time.sleep(EVERY.total_seconds())
    return [ended[job] for job in rows]


def _compare(store: Store, backends: list[Backend], jobs: dict[str, JobId]) -> list[str]:
    """Hold the report against what the backends themselves say."""
    faults: list[str] = []
    number = 0
    for one in backends:
        count, found = one.faults(_report(store, jobs[one.name]))
        number += count
        faults += [f"{one.name}: {fault}" for fault in found]
    if not faults:
        typer.echo(f"{number:,} outcomes agree with the ledgers of the backends, item by item")
    return faults


def _report(store: Store, job: JobId) -> Iterator[Outcome]:
    """Every outcome of a job; no transaction is held between the pages."""
    after: int | None = -1
    while after is not None:
        page = store.results(job, verdict=None, after=after, limit=PAGE_ROWS, size=PAGE_BYTES)
        yield from page.rows
        after = page.next


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)
