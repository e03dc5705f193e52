"""`pause`, `resume`, `cancel`, `approve`, `decline`, `retry`, `forget`: wishes.

They are written to the store, so they work when no worker lives; whoever lives
sees them at his next look.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from api_adapters.errors import BadItem
from worker.cli.ends import Exit, fail, say
from worker.cli.places import (
    ByOption,
    ConfigOption,
    JobArgument,
    ReasonOption,
    item_named,
    job_id,
    known_target,
    opened,
    who,
)
from worker.item import digest_of_key
from worker.job import ALSO_LEFT, JobId, JobState
from worker.store.base import Store, Who

#: A wish: what it does to the store, and its help.
_Wish = Callable[[Store, JobId, Who], None]
_WISHES: dict[str, tuple[_Wish, str]] = {
    "pause": (lambda store, job, who: store.pause(job, who), "Claim nothing more of a job."),
    "cancel": (
        lambda store, job, who: store.cancel(job, who),
        "End a job; what was never sent is skipped.",
    ),
    "decline": (
        lambda store, job, who: store.decline(job, who),
        "End a job that waits for approval; all of it is skipped.",
    ),
}


def _command(name: str) -> Callable[..., None]:
    """One command of the table."""
    wish, text = _WISHES[name]

    def command(
        job: JobArgument,
        *,
        by: ByOption = None,
        reason: ReasonOption = None,
        config: ConfigOption = None,
    ) -> None:
        with opened(config) as deployment:
            wish(deployment.store, job_id(job), who(by, reason))
            # Where nothing of it is out, the job ends at once and not only
            # when a worker looks.
            deployment.settler().settle(job_id(job))
            found = deployment.store.job(job_id(job))
        say(f"job {found.id} is {found.state}")

    command.__name__ = name
    command.__doc__ = text
    return command


def approve(
    job: JobArgument,
    *,
    digest: Annotated[
        str | None,
        typer.Option(help="Of the items that were looked at, as `explain` tells it."),
    ] = None,
    by: ByOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Let a job start that waits for approval, with the items it has now and no others."""
    with opened(config) as deployment:
        store = deployment.store
        found = store.job(job_id(job))
        deployment.purger().check_approval(found)
        target = deployment.targets.get(found.target)
        # What a query found may be deleted for so long.
        valid_for = target.found_valid_for if target else None
        store.approve(found.id, who(by, reason), valid_for=valid_for, digest=digest)
        state = store.job(found.id).state
    say(f"job {found.id} is {state}: {found.items:,} items, digest {found.items_digest}")


def resume(
    job: JobArgument,
    *,
    accept_target: Annotated[
        bool,
        typer.Option("--accept-target", help="Take the target as it is configured now."),
    ] = False,
    by: ByOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Go on with a paused job, or with one whose target was configured anew."""
    with opened(config) as deployment:
        store, me = deployment.store, who(by, reason)
        found = store.job(job_id(job))
        target = deployment.targets.get(found.target)
        if accept_target:
            target = known_target(deployment.targets, found.target)
            store.accept_target(found.id, me, fingerprint=target.fingerprint)
        if not (accept_target and found.state is not JobState.PAUSED):
            store.resume(found.id, me, valid_for=target.found_valid_for if target else None)
        found = store.job(found.id)
    say(f"job {found.id} is {found.state}")


def retry(
    job: JobArgument,
    *,
    also: Annotated[
        str, typer.Option(metavar="VERDICTS", help="Of accepted,rejected: take these too.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Try again what is failed, unknown, denied or skipped; prints the child's id."""
    wanted = {name.strip() for name in also.split(",") if name.strip()}
    known = {verdict.value: verdict for verdict in ALSO_LEFT}
    if wanted - known.keys():
        fail(f"--also: expected some of {', '.join(sorted(known))}", Exit.WRONG_USE)
    with opened(config) as deployment:
        child = deployment.submitter().retry(
            job_id(job), also=frozenset(known[name] for name in wanted)
        )
    typer.echo(child.id)


def forget(
    target: Annotated[str, typer.Argument(metavar="TARGET")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The item; an object as JSON.")],
    *,
    by: ByOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Drop an item from all settled jobs; their tallies stay."""
    with opened(config) as deployment:
        known = known_target(deployment.targets, target)
        item = item_named(deployment, known, key)
        try:
            digest = digest_of_key(target, deployment.adapters(target).key(item))
        except BadItem as error:
            fail(f"it is no item of target '{target}': {error}", Exit.NOT_REACHABLE)
        forgotten = deployment.store.forget(target, digest, who(by, reason))
    say(f"forgotten by {forgotten.forgotten} jobs")
    if forgotten.kept:
        say(f"{forgotten.kept} jobs that have not ended still need it: forget it again afterwards")
        raise typer.Exit(int(Exit.SOME_NOT))


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(approve)
    app.command()(resume)
    app.command()(retry)
    app.command()(forget)
    for name in _WISHES:
        app.command(name)(_command(name))
