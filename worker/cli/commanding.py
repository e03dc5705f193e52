"""`pause`, `resume`, `cancel`, `approve`, `decline`: wishes for a job.

They are written to the store, so they work when no worker lives; whoever lives
sees them at his next look.
"""

from collections.abc import Callable

import typer

from worker.cli.ends import say
from worker.cli.places import ByOption, ConfigOption, JobArgument, ReasonOption, job_id, opened, who
from worker.job import JobId
from worker.store.base import Store, Who

#: A wish: what it does to the store, and its help.
_WISHES: dict[str, tuple[Callable[[Store, JobId, Who], None], str]] = {
    "pause": (lambda store, job, who: store.pause(job, who), "Claim nothing more of a job."),
    "resume": (lambda store, job, who: store.resume(job, who), "Go on with a paused job."),
    "cancel": (
        lambda store, job, who: store.cancel(job, who),
        "End a job; what was never sent is skipped.",
    ),
    "approve": (
        lambda store, job, who: store.approve(job, who),
        "Let a job start that waits for approval.",
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


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for name in _WISHES:
        app.command(name)(_command(name))
