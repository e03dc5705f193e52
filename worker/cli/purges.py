"""`purges [list]`, `purges history`, `purges run`: the standing orders."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api_adapters.base import GONE, Verdict
from worker.cli.asking import StrictOption
from worker.cli.confirming import ask, is_watched
from worker.cli.ends import Exit, exit_of, fail, say
from worker.cli.following import follow, plan_lines, tally_lines
from worker.cli.jobs import print_table
from worker.cli.places import ByOption, ConfigOption, ReasonOption, opened, who
from worker.job import JobState, moment_text
from worker.purge import Purge, RunStatus, is_overdue
from worker.store.base import Store

if TYPE_CHECKING:
    from worker.assembly import Deployment

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of a [purges.NAME].")]
LinesOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

purges = typer.Typer(rich_markup_mode=None)


@purges.callback(invoke_without_command=True)
def show(
    context: typer.Context, *, as_json: LinesOption = False, config: ConfigOption = None
) -> None:
    """Standing orders: what they are, when they run, and how they went."""
    if context.invoked_subcommand is None:
        list_purges(as_json=as_json, config=config)


@purges.command("list")
def list_purges(*, as_json: LinesOption = False, config: ConfigOption = None) -> None:
    """Each purge, its next and its last run; OVERDUE is one that has not succeeded for too long."""
    with opened(config) as deployment:
        store = deployment.store
        found = [_described(store, purge) for purge in deployment.purges.values()]
    if as_json:
        for one in found:
            typer.echo(json.dumps(one))
        return
    print_table(
        ("purge", "target", "schedule", "is", "next run", "last run", "went", ""),
        [_row(one) for one in found],
    )


@purges.command()
def history(
    name: NameArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: LinesOption = False,
    config: ConfigOption = None,
) -> None:
    """The runs of a purge, newest first."""
    with opened(config) as deployment:
        if deployment.store.purge(name).registered_at is None:
            _known(deployment, name)
        found = deployment.store.purge_runs(name, limit=limit)
    if as_json:
        for one in found:
            typer.echo(json.dumps(one.as_json()))
        return
    print_table(
        ("due", "job", "went", "items", "gone", "failed", "unknown", "reason"),
        [_run_row(one) for one in found],
    )


@purges.command()
def run(
    name: NameArgument,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Find and freeze, send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    strict: StrictOption = False,
    by: ByOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Begin a run now; prints the job's id alone. Its brakes hold as on any other run."""
    with opened(config) as deployment:
        purge = _known(deployment, name)
        target = deployment.targets[purge.target]
        if is_watched() and not (dry_run or yes):
            ask(f"delete what purge '{name}' finds from {target.name} ({target.address})?")
        me = who(by, reason)
        job = deployment.purger().run_by_hand(name, me, dry_run=dry_run).job
        typer.echo(job)
        if not wait or job is None:
            return
        status = follow(deployment.store, job, who=me)
        for line in (*tally_lines(status), *plan_lines(deployment.store, status, target)):
            say(line)
    if status.job.state is JobState.AWAITING_APPROVAL:
        say(f"look at it, then: deletions approve {job}")
    raise typer.Exit(int(exit_of(status, is_strict=strict)))


def _known(deployment: "Deployment", name: str) -> Purge:
    """The purge that an argument names."""
    found = deployment.purges.get(name)
    if found is None:
        names = ", ".join(deployment.purges) or "none"
        fail(f"there is no purge '{name}'; configured: {names}", Exit.WRONG_USE)
    return found


def _described(store: Store, purge: Purge) -> dict[str, Any]:
    """All that is known of a purge: the shape of `purges --json`."""
    note = store.purge(purge.name)
    last = next(iter(store.purge_runs(purge.name, limit=1)), None)
    succeeded_at = store.purge_succeeded_at(purge.name)
    anchor = note.registered_at or note.seen_at
    due = purge.schedule.next_due(after=note.seen_at, anchor=anchor) if purge.enabled else None
    return {
        "name": purge.name,
        "target": purge.target,
        "schedule": str(purge.schedule),
        "enabled": purge.enabled,
        "trusted": purge.trusted,
        "approved": note.approved == purge.digest,
        "next_due_at": moment_text(due),
        "last_run": last.as_json() if last else None,
        "succeeded_at": moment_text(succeeded_at),
        "overdue": is_overdue(purge, note, succeeded_at=succeeded_at),
    }


def _row(one: dict[str, Any]) -> list[str]:
    last = one["last_run"]
    return [
        one["name"],
        one["target"],
        one["schedule"],
        _trust(one),
        one["next_due_at"] or "",
        last["due_at"] if last else "",
        (last["state"] or last["outcome"]) if last else "",
        "OVERDUE" if one["overdue"] else "",
    ]


def _trust(one: dict[str, Any]) -> str:
    """What a run of it may do by itself."""
    if not one["enabled"]:
        return "disabled"
    if one["trusted"]:
        return "trusted"
    return "approved" if one["approved"] else "unapproved"


def _run_row(one: RunStatus) -> list[str]:
    tally = one.tally or {}
    counts = [
        sum(tally.get(verdict, 0) for verdict in GONE),
        tally.get(Verdict.FAILED, 0),
        tally.get(Verdict.UNKNOWN, 0),
    ]
    by_hand = ", by hand" if one.run.by_hand else ""
    dry = ", dry run" if one.dry_run else ""
    return [
        f"{moment_text(one.run.due_at)}{by_hand}{dry}",
        one.run.job or "",
        one.word,
        f"{one.items:,}" if one.run.job else "",
        *(f"{count:,}" if one.tally is not None else "" for count in counts),
        one.run.reason or "",
    ]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(purges, name="purges")
