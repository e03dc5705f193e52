"""`status`, `jobs`, `watch`, `results`, `item`, `events`: what the store knows."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from api_adapters.base import GONE, Verdict
from worker.cli.asking import StrictOption
from worker.cli.ends import Exit, exit_of, fail, say
from worker.cli.following import follow, plan_lines, tally_lines
from worker.cli.formats import ResultFormat, write_outcomes
from worker.cli.output import STANDARD_OUTPUT, open_output
from worker.cli.places import (
    ConfigOption,
    JobArgument,
    item_named,
    job_id,
    known_target,
    opened,
)
from worker.explaining import explain as explain_job
from worker.item import Outcome
from worker.job import JobId, JobStatus, moment_text
from worker.store.base import Store

#: What is read at once.
PAGE_ROWS, PAGE_BYTES = 5_000, 2**20

JsonOption = Annotated[bool, typer.Option("--json", help="As one JSON object.")]


def status(job: JobArgument, *, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Where a job stands."""
    with opened(config) as deployment:
        found = deployment.store.status(job_id(job))
        configured = deployment.targets.get(found.job.target)
        plan = list(plan_lines(deployment.store, found, configured))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    for line in (*tally_lines(found), *plan):
        typer.echo(line)
    if found.waiting_for:
        typer.echo(f"  waiting for {found.waiting_for}")


def explain(job: JobArgument, *, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """The one thing that a job waits for."""
    with opened(config) as deployment:
        store = deployment.store
        found = store.status(job_id(job))
        why = explain_job(
            found,
            store.job_note(found.job.id),
            beside=store.target_note(found.job.target),
            target=deployment.targets.get(found.job.target),
        )
    if as_json:
        shown = {"job": found.job.id, "waiting_for": why.word, "explanation": why.sentence}
        typer.echo(json.dumps(shown))
        return
    typer.echo(f"{why.word}: {why.sentence}")


def jobs(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """The newest jobs."""
    with opened(config) as deployment:
        found = deployment.store.jobs(limit=limit)
    if as_json:
        for one in found:
            typer.echo(json.dumps(one.as_json()))
        return
    print_table(
        ("job", "target", "state", "items", "pending", "gone", "not gone", "created"),
        [_job_row(one) for one in found],
    )


def watch(job: JobArgument, *, strict: StrictOption = False, config: ConfigOption = None) -> None:
    """Follow a job to its end; Ctrl-C leaves it alone."""
    with opened(config) as deployment:
        found = follow(deployment.store, job_id(job), who=None)
        for line in tally_lines(found):
            typer.echo(line)
    raise typer.Exit(int(exit_of(found, is_strict=strict)))


def results(
    job: JobArgument,
    *,
    verdict: Annotated[Verdict | None, typer.Option(help="Only items with this verdict.")] = None,
    result_format: Annotated[
        ResultFormat, typer.Option("--format", help="jsonl for programs.")
    ] = ResultFormat.JSONL,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Else standard output.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """The outcomes of a job by position, streamed."""
    with opened(config) as deployment:
        write_results(
            deployment.store,
            job_id(job),
            verdict=verdict,
            result_format=result_format,
            output=output,
        )


def item(
    target: Annotated[str, typer.Argument(metavar="TARGET")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The item; an object as JSON.")],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """What happened to an item; 0 it is gone, 1 it is not, 4 never seen."""
    with opened(config) as deployment:
        wanted = item_named(deployment, known_target(deployment.targets, target), key)
        found = deployment.desk().history(target, wanted)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        if found["protection"] is not None:
            typer.echo(_protected(found["protection"]))
        print_table(
            ("job", "verdict", "evidence", "code", "attempts", "decided", "asked by", "asked"),
            [_mention_row(one) for one in found["jobs"]],
        )
    if not found["jobs"]:
        say(f"no job that is kept names it: target '{target}' was never asked, or long ago")
        raise typer.Exit(int(Exit.NOT_REACHABLE))
    is_gone = found["jobs"][0]["verdict"] in GONE
    raise typer.Exit(int(Exit.DONE if is_gone else Exit.SOME_NOT))


def events(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Who did what, newest first."""
    with opened(config) as deployment:
        # A job that is not there is told, and not shown as one that nobody touched.
        known = deployment.store.job(job_id(job)).id if job else None
        found = list(deployment.store.events(known, limit=limit))
    rows = [
        {
            "at": moment_text(one.at),
            "kind": one.kind,
            "job": one.job,
            "target": one.target,
            "os_user": one.os_user,
            "by": one.by,
            "detail": dict(one.detail),
        }
        for one in found
    ]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    print_table(
        ("at", "what", "job", "target", "user", "by", "detail"),
        [[_text(value) for value in row.values()] for row in rows],
    )


def write_results(
    store: Store,
    job: JobId,
    *,
    verdict: Verdict | None = None,
    result_format: ResultFormat = ResultFormat.JSONL,
    output: str | None,
) -> None:
    """Write the outcomes of a job; a file appears whole or not at all."""
    # Asked before the file is opened, so that an unknown job leaves none.
    if (pruned_at := store.job(job).pruned_at) is not None:
        when = f"{moment_text(pruned_at)}: they had been kept for long enough"
        fail(f"the items of job {job} were dropped at {when}", Exit.NOT_REACHABLE)
    with telling_unwritable(output), open_output(output, stdout=sys.stdout) as out:
        write_outcomes(outcomes_of(store, job, verdict), out, result_format=result_format)


@contextmanager
def telling_unwritable(output: str | None) -> Iterator[None]:
    """End the command where its output cannot be written."""
    try:
        yield
    except OSError as error:
        name = "standard output" if output in {None, STANDARD_OUTPUT} else output
        fail(f"{name} cannot be written: {error.strerror}", Exit.WRONG_USE)


def outcomes_of(store: Store, job: JobId, verdict: Verdict | None) -> Iterator[Outcome]:
    """All outcomes, page by page; no transaction is held between them."""
    after: int | None = -1
    while after is not None:
        page = store.results(job, verdict=verdict, after=after, limit=PAGE_ROWS, size=PAGE_BYTES)
        yield from page.rows
        after = page.next


def _job_row(one: JobStatus) -> list[str]:
    gone = sum(one.tally.get(verdict, 0) for verdict in GONE)
    not_gone = sum(one.tally.values()) - gone
    return [
        one.job.id,
        one.job.target,
        one.job.state.value,
        f"{one.job.items:,}",
        f"{one.pending:,}",
        f"{gone:,}",
        f"{not_gone:,}",
        moment_text(one.job.created_at) or "",
    ]


def _mention_row(one: dict[str, Any]) -> list[str]:
    names = ("job", "verdict", "evidence", "code", "attempts", "decided_at", "requested_by")
    return [*(_text(one[name]) for name in names), _text(one["created_at"])]


def _protected(why: dict[str, Any]) -> str:
    """Why an item is never sent, in a line."""
    until = f" until {why['until']}" if why["until"] else ""
    by = why["by"] or why["os_user"]
    said = f", says {by}" if by else ""
    return f"protected{until}{said}: {why['reason'] or 'no reason was given'}"


def _text(value: Any) -> str:
    match value:
        case None | {}:
            return ""
        case dict():
            return json.dumps(value)
        case _:
            return str(value)


def print_table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """A table for people; nothing in it is cut off."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    width = None if sys.stdout.isatty() else 1_000
    Console(markup=False, emoji=False, highlight=False, soft_wrap=True, width=width).print(table)


def _plain(cell: str) -> str:
    """Without characters that steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cell)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (status, explain, jobs, watch, results, item, events):
        app.command()(command)
