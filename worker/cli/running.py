"""`run`: all in one go on the embedded default."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated
from uuid import uuid4

import typer

from worker.assembly import Deployment
from worker.cli.asking import (
    ColumnOption,
    DryRunOption,
    FormatOption,
    FromOption,
    ItemsArgument,
    QueryOption,
    StrictOption,
    Wanted,
    read_wish,
)
from worker.cli.ends import Exit, exit_of, fail, say
from worker.cli.following import follow, tally_lines
from worker.cli.jobs import write_results
from worker.cli.places import ConfigOption, known_target, opened, who
from worker.cli.submitting import client_of, send
from worker.embedded.commands import child_environ, worker_command
from worker.embedded.processes import Change, Processes
from worker.embedded.valkey import Valkey
from worker.environment import Environment
from worker.job import JobId, JobState, JobStatus
from worker.target import Target

#: A job of at most so many items is not worth a second worker's start.
SMALL = 10_000
#: How long the workers may take to start and answer.
START_TIMEOUT = timedelta(seconds=60)
#: How long they may take to finish what is in hand.
GRACE = timedelta(seconds=45)
#: Neighbours are nothing to us, and asking for them takes a second at the start.
ALONE = ("--without-mingle", "--without-gossip")


def run(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A configured target.")],
    items: ItemsArgument = None,
    *,
    file: FromOption = None,
    file_format: FormatOption = None,
    column: ColumnOption = None,
    query: QueryOption = None,
    dry_run: DryRunOption = False,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the results there as JSON lines.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    strict: StrictOption = False,
    config: ConfigOption = None,
) -> None:
    """Start, submit, delete, tell, stop: a first Ctrl-C cancels the job."""
    wanted = read_wish(items, file=file, file_format=file_format, column=column, query=query)
    with opened(config) as deployment:
        known = known_target(deployment, target)
        count = wanted.count() if sys.stdin.isatty() and not yes else None
        if not (yes or dry_run):
            _ask(known, count)
        status = _run(deployment, wanted, known, dry_run=dry_run, is_small=(count or SMALL) < SMALL)
        if output is not None:
            write_results(deployment.store, status.job.id, output=output)
        for line in tally_lines(status):
            typer.echo(line, err=output == "-")
        if dry_run:
            _tell_plan(deployment, known, status)
        if status.job.state is JobState.AWAITING_APPROVAL:
            say(f"look at it, then: deletions approve {status.job.id}, and start `deletions up`")
    raise typer.Exit(int(exit_of(status, is_strict=strict)))


def _run(
    deployment: Deployment, wanted: Wanted, target: Target, *, dry_run: bool, is_small: bool
) -> JobStatus:
    """Submit to workers of our own and follow the job to its end."""
    job = JobId(str(uuid4()))
    me = who(None, None)
    number = 1 if is_small or wanted.file is None else (os.cpu_count() or 1)
    with (
        workers_of(deployment.environment, number=number) as processes,
        client_of(deployment, timeout=START_TIMEOUT) as client,
    ):
        # Whoever runs it by hand wants to know now, whatever was wrong before.
        deployment.store.open_target(target.name, me)
        try:
            send(
                client,
                wanted,
                target=target.name,
                job=job,
                dry_run=dry_run,
                requested_by=me.os_user,
            )
        except KeyboardInterrupt:
            deployment.store.cancel(job, me)
        return follow(
            deployment.store,
            job,
            look_after=lambda: _look_after(deployment, processes, job, target.name),
            who=me,
        )


@contextmanager
def workers_of(places: Environment, *, number: int) -> Iterator[Processes]:
    """The embedded broker where none is configured, and so many workers."""
    broker = Valkey(places.data_dir) if places.is_embedded else None
    if broker is not None:
        broker.start()
    try:
        processes = Processes(places.data_dir, environ=child_environ(os.environ, places))
        try:
            for one in range(1, number + 1):
                # Beside the workers of an `up`, names must differ.
                processes.start(worker_command(f"-run-{os.getpid()}-{one}", *ALONE))
            yield processes
        finally:
            processes.stop(grace=GRACE)
    finally:
        if broker is not None:
            broker.stop()


def _look_after(deployment: Deployment, processes: Processes, job: JobId, target: str) -> None:
    """Start workers again that died, and do not wait for a target that is closed."""
    for seen in processes.poll():
        if seen.change is Change.DIED:
            say(f"{seen.name} ended unexpectedly; see {deployment.environment.data_dir / 'logs'}")
    reason = deployment.store.target_note(target)["closed_reason"]
    if reason is not None:
        deployment.store.stop(job, reason=reason)
        deployment.settler().settle(job)


def _ask(target: Target, count: int | None) -> None:
    """Show what would be done and where; without a terminal there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    number = "what the query finds" if count is None else f"{count:,} items"
    if not typer.confirm(f"delete {number} from {target.name} ({target.address})?", err=True):
        fail("nothing was done", Exit.ENDED_EARLY)


def _tell_plan(deployment: Deployment, target: Target, status: JobStatus) -> None:
    """What the dry run found, and how to execute it."""
    calls = -(-status.job.items // target.limits.max_items_per_call)
    say(f"would take about {calls:,} calls of {target.limits.max_items_per_call} items")
    for text in deployment.store.sample(status.job.id, limit=5):
        say(f"  {text}")
    say(f"to delete exactly these: deletions submit --plan {status.job.id}")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(run)
