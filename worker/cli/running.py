"""`run`: all in one go on the embedded default."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from api_adapters.base import Adapter
from api_adapters.errors import BadSettings
from worker.admitting import admit_query
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
from worker.cli.confirming import ask, is_watched
from worker.cli.ends import Exit, exit_of, fail, say
from worker.cli.following import EVERY, SAMPLE, follow, plan_lines, tally_lines
from worker.cli.jobs import telling_unwritable, write_results
from worker.cli.output import STANDARD_OUTPUT, check_output
from worker.cli.places import ConfigOption, find_places, known_target, opened_at, who
from worker.cli.submitting import client_of, send
from worker.embedded.commands import child_environ, worker_command
from worker.embedded.processes import Change, Processes
from worker.embedded.valkey import Valkey
from worker.environment import Environment
from worker.errors import RefusedRequest
from worker.job import JobId, JobState, JobStatus
from worker.requests import Submit
from worker.settings import load_configuration
from worker.store.base import Who
from worker.target import Target

if TYPE_CHECKING:
    from worker.assembly import Deployment
    from worker.client import DeletionClient

#: How long the workers may take to start and answer.
START_TIMEOUT = timedelta(seconds=60)
#: How long a message that was sent may be read and not yet be in the store.
UNDER_WAY = timedelta(seconds=2)
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
    wanted.check()
    with telling_unwritable(output):
        check_output(output)
    places = find_places(config)
    known = known_target(load_configuration(places.configuration).targets, target)
    if wanted.query is not None:
        # Refused now, not after workers were started for it.
        admit_query(wanted.query, target=known, adapter=lambda: _alone(known))
    is_asked = not (yes or dry_run) and is_watched()
    if is_asked and wanted.query is None:
        ask(f"delete {wanted.described()} from {known.name} ({known.address})?")
    number = 1 if wanted.is_small else (os.cpu_count() or 1)
    # The workers come first: they start while the rest is imported here.
    with workers_of(places, number=number) as processes, opened_at(places) as deployment:
        way = _Way(deployment, processes, known)
        if wanted.query is not None and is_asked:
            status = way.find_ask_delete(wanted.query)
        else:
            status = way.delete(wanted, dry_run=dry_run)
        for line in tally_lines(status):
            typer.echo(line, err=output == STANDARD_OUTPUT)
        if output is not None:
            write_results(deployment.store, status.job.id, output=output)
        for line in plan_lines(deployment.store, status, known):
            say(line)
        if status.job.state is JobState.AWAITING_APPROVAL:
            say(f"look at it, then: deletions approve {status.job.id}, and start `deletions up`")
    raise typer.Exit(int(exit_of(status, is_strict=strict)))


@dataclass(frozen=True, slots=True)
class _Way:
    """One job of ours, and the workers that do it."""

    deployment: "Deployment"
    processes: Processes
    target: Target

    def delete(self, wanted: Wanted, *, dry_run: bool) -> JobStatus:
        """Submit to workers of our own and follow the job to its end."""
        job = JobId(str(uuid4()))
        me = self._begin()
        with client_of(self.deployment, timeout=START_TIMEOUT) as client:
            options = {"dry_run": dry_run, "requested_by": me.os_user}
            try:
                is_heard = send(client, wanted, target=self.target.name, job=job, **options)
            except KeyboardInterrupt:
                say("cancelling the job; Ctrl-C again leaves it to itself")
                _call_off(self.deployment, client, job, me)
            else:
                if not is_heard:
                    logs = self.deployment.environment.data_dir / "logs"
                    fail(
                        f"the workers did not answer: see {logs}; whether job {job} begins with "
                        f"the next ones, `deletions status {job}` says then",
                        Exit.NOT_REACHABLE,
                    )
            return self._follow(job, me)

    def find_ask_delete(self, query: Mapping[str, Any]) -> JobStatus:
        """Find, show what was found, and delete it if the person says so.

        The job is held by the store until then, so that nothing of it begins
        whatever becomes of us.
        """
        me = self._begin()
        request = Submit(
            job=str(uuid4()), target=self.target.name, query=dict(query), requested_by=me.os_user
        )
        job = self.deployment.submitter().submit(request, needs_approval=True).job.id
        status = self._follow(job, me)
        if status.job.state is not JobState.AWAITING_APPROVAL:
            return status
        for text in self.deployment.store.sample(job, limit=SAMPLE):
            say(f"  {text}")
        question = (
            f"delete the {status.job.items:,} items that were found "
            f"from {self.target.name} ({self.target.address})?"
        )
        if _says_yes(question):
            self.deployment.store.approve(
                job,
                me,
                valid_for=self.target.found_valid_for,
                digest=status.job.items_digest,
            )
        else:
            self.deployment.store.decline(job, me)
            self.deployment.settler().settle(job)
        return self._follow(job, me)

    def _begin(self) -> Who:
        """Whoever runs it by hand wants to know now, whatever was wrong before."""
        me = who(None, None)
        self.deployment.store.open_target(self.target.name, me)
        return me

    def _follow(self, job: JobId, me: Who) -> JobStatus:
        return follow(
            self.deployment.store,
            job,
            look_after=lambda: _look_after(self.deployment, self.processes, job, self.target.name),
            who=me,
        )


def _call_off(deployment: "Deployment", client: "DeletionClient", job: JobId, me: Who) -> None:
    """Cancel a job whose message may still be on its way, or was never sent."""
    from worker.client import NoAnswer, Refused

    # An answer, whichever, says that the workers have read what was sent before.
    with suppress(Refused, NoAnswer):
        client.status(job)
    until = time.monotonic() + UNDER_WAY.total_seconds()
    while True:
        try:
            return deployment.store.cancel(job, me)
        except RefusedRequest:
            if time.monotonic() > until:
                fail("nothing was done", Exit.ENDED_EARLY)
        time.sleep(EVERY.total_seconds())


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


def _look_after(deployment: "Deployment", processes: Processes, job: JobId, target: str) -> None:
    """Start workers again that died, and do not wait for a target that is closed."""
    for seen in processes.poll():
        if seen.change is Change.DIED:
            say(f"{seen.name} ended unexpectedly; see {deployment.environment.data_dir / 'logs'}")
    reason = deployment.store.target_note(target).closed_reason
    if reason is not None:
        deployment.store.stop(job, reason=reason)
        deployment.settler().settle(job)


def _alone(target: Target) -> Adapter:
    """The target's adapter, for a question that asks nobody. Raises RefusedRequest."""
    from worker.pace import NoPace

    try:
        return target.adapter(target.settings, pace=NoPace())
    except BadSettings as error:
        raise RefusedRequest("unknown_target", f"target '{target.name}': {error}") from error


def _says_yes(question: str) -> bool:
    """Ask; Ctrl-C is a no."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(run)
