"""`prune`: drop what was kept for long enough."""

from typing import Annotated

import typer

from worker.cli.confirming import ask, is_watched
from worker.cli.ends import say
from worker.cli.jobs import print_table
from worker.cli.places import ByOption, ConfigOption, ReasonOption, opened, who
from worker.job import JobId, moment_text
from worker.store.base import Outdated, Store

#: Jobs that are shown.
MOST_SHOWN = 1_000


def prune(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what, and leave it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: ByOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Drop the items of settled jobs that are older than `retain_for`; the clock does so too."""
    with opened(config) as deployment:
        found = deployment.store.outdated(limit=MOST_SHOWN)
        if dry_run:
            _print(deployment.store, found)
            return
        if is_watched() and not yes:
            ask(f"drop the items of {_count(found.prune)} jobs, decline {_count(found.decline)}?")
        done = deployment.pruner().prune(who(by, reason))
        for job in done.declined:
            # Where nothing of it is out, it ends at once and not only when a worker looks.
            deployment.settler().settle(job)
    say(f"dropped the items of {len(done.jobs):,} jobs, declined {len(done.declined):,}")


def _print(store: Store, found: Outdated) -> None:
    """What would become of which job."""
    rows = [_row(store, job, "dropped") for job in found.prune]
    rows += [_row(store, job, "declined") for job in found.decline]
    print_table(("job", "target", "state", "items", "finished", "would be"), rows)


def _row(store: Store, job: JobId, what: str) -> list[str]:
    known = store.job(job)
    finished = moment_text(known.finished_at) or ""
    return [known.id, known.target, known.state.value, f"{known.items:,}", finished, what]


def _count(jobs: tuple[JobId, ...]) -> str:
    """How many, as far as they were looked at.

    >>> _count((JobId("a"), JobId("b")))
    '2'
    """
    return f"{len(jobs):,}" + ("+" if len(jobs) == MOST_SHOWN else "")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(prune)
