"""`submit`: hand a job to running workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

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
from worker.cli.following import follow, plan_lines, tally_lines
from worker.cli.places import ConfigOption, job_id, known_target, opened, who
from worker.embedded.valkey import answers
from worker.environment import socket_path
from worker.errors import RefusedRequest
from worker.job import JobId
from worker.target import Target

if TYPE_CHECKING:
    from worker.assembly import Deployment
    from worker.client import DeletionClient

#: How long a worker may take to answer one message.
ANSWER_TIMEOUT = timedelta(seconds=30)


def submit(
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="A configured target.")
    ] = None,
    items: ItemsArgument = None,
    *,
    file: FromOption = None,
    file_format: FormatOption = None,
    column: ColumnOption = None,
    query: QueryOption = None,
    identity: Annotated[
        str | None, typer.Option("--id", metavar="UUID", help="The job's id; safe to repeat.")
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="JOB", help="Execute this dry run as it was frozen."),
    ] = None,
    dry_run: DryRunOption = False,
    requested_by: Annotated[str | None, typer.Option(help="A note: who asked for it.")] = None,
    notify: Annotated[
        str | None, typer.Option(help="A [notify.NAME] to tell when it settles.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    strict: StrictOption = False,
    config: ConfigOption = None,
) -> None:
    """Hand a job to running workers; prints the job's id alone."""
    job = job_id(identity) if identity else JobId(str(uuid4()))
    if plan is not None and (target or items or file or query or dry_run or notify):
        fail(
            "--plan takes its target and its items from the dry run: leave them out, "
            "and --dry-run and --notify too",
            Exit.WRONG_USE,
        )
    if plan is None and target is None:
        fail("expected a TARGET, or --plan JOB", Exit.WRONG_USE)
    with opened(config) as deployment:
        if plan is not None:
            deployment.submitter().open_plan(job, plan=job_id(plan), requested_by=requested_by)
        else:
            wanted = read_wish(
                items, file=file, file_format=file_format, column=column, query=query
            )
            known = known_target(deployment.targets, target or "")
            _refuse_without_broker(deployment)
            options = {"dry_run": dry_run, "requested_by": requested_by, "notify": notify}
            _hand_over(deployment, wanted, known, job=job, **options)
        typer.echo(job)
        if wait:
            status = follow(deployment.store, job, who=who(None, None))
            configured = deployment.targets.get(status.job.target)
            for line in (*tally_lines(status), *plan_lines(deployment.store, status, configured)):
                say(line)
            raise typer.Exit(int(exit_of(status, is_strict=strict)))


@contextmanager
def client_of(
    deployment: "Deployment", *, timeout: timedelta = ANSWER_TIMEOUT
) -> Iterator["DeletionClient"]:
    """A client of this deployment's broker."""
    from worker.client import DeletionClient

    places = deployment.environment
    with DeletionClient(
        places.broker_url, result_backend_url=places.result_backend_url, timeout=timeout
    ) as client:
        yield client


def send(
    client: "DeletionClient", wanted: Wanted, *, target: str, job: JobId, **options: Any
) -> bool:
    """Submit what is wanted; False if nobody answered. Raises RefusedRequest, UnreadableFile."""
    from worker.client import NoAnswer, Refused

    try:
        if wanted.query is not None:
            client.submit(target, query=wanted.query, job=job, **options)
            return True
        with wanted.opened() as items:
            client.submit(target, items, job=job, **options)
            return True
    except Refused as refused:
        raise RefusedRequest(refused.code, refused.message, data=refused.data) from refused
    except NoAnswer:
        return False


def _hand_over(
    deployment: "Deployment", wanted: Wanted, target: Target, *, job: JobId, **options: Any
) -> None:
    """Submit to whoever listens; without an answer the job's id is told all the same."""
    with client_of(deployment) as client:
        try:
            is_heard = send(client, wanted, target=target.name, job=job, **options)
        except KeyboardInterrupt:
            fail(
                f"interrupted; to be sure that it does not begin: deletions cancel {job}",
                Exit.ENDED_EARLY,
            )
    if not is_heard:
        fail(
            f"no worker answered for job {job}: start one with `deletions up`; "
            f"sending it again with --id {job} is safe",
            Exit.NOT_REACHABLE,
        )


def _refuse_without_broker(deployment: "Deployment") -> None:
    """Say at once that nobody is there, where that can be known."""
    places = deployment.environment
    if places.is_embedded and not answers(socket_path(places.data_dir)):
        fail(
            "no worker runs here: start them with `deletions up`, "
            "or do all in one go with `deletions run`",
            Exit.NOT_REACHABLE,
        )


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(submit)
