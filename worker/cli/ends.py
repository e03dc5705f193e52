"""How a command ends: its exit code, and one clear message where it failed."""

from enum import IntEnum
from typing import NoReturn

import typer

from worker.errors import (
    BadConfiguration,
    DeletionError,
    RefusedRequest,
    StoreUnavailable,
    UnreadableFile,
    WrongMigration,
)
from worker.job import JobState, JobStatus, are_all_gone


class Exit(IntEnum):
    """What a script can rely on."""

    DONE = 0  #: all gone, or accepted where the target cannot say more
    SOME_NOT = 1  #: some are not gone
    WRONG_USE = 2  #: wrong use or configuration
    ENDED_EARLY = 3  #: cancelled, declined or stopped
    NOT_REACHABLE = 4  #: not reachable, no answer in time, or not found
    WAITING = 5  #: waiting for approval


#: What a refusal means for the exit code; the others are wrong use.
_EXIT_BY_CODE = {
    "unknown_job": Exit.NOT_REACHABLE,
    "store_unavailable": Exit.NOT_REACHABLE,
}


def exit_of(status: JobStatus, *, is_strict: bool = False) -> Exit:
    """How a job's end is told to a script."""
    match status.job.state:
        case JobState.COMPLETED if status.job.dry_run:
            return Exit.DONE
        case JobState.COMPLETED:
            is_good = are_all_gone(status.tally, accepted_counts=not is_strict)
            return Exit.DONE if is_good else Exit.SOME_NOT
        case JobState.CANCELLED | JobState.STOPPED:
            return Exit.ENDED_EARLY
        case JobState.AWAITING_APPROVAL:
            return Exit.WAITING
        case _:
            return Exit.NOT_REACHABLE


def exit_of_error(error: DeletionError) -> Exit:
    """The exit code of a failure."""
    match error:
        case RefusedRequest(code=code):
            return _EXIT_BY_CODE.get(code, Exit.WRONG_USE)
        case StoreUnavailable():
            return Exit.NOT_REACHABLE
        case BadConfiguration() | WrongMigration() | UnreadableFile():
            return Exit.WRONG_USE
        case _:
            return Exit.NOT_REACHABLE


def say(message: str) -> None:
    """Tell a person something; data goes to standard output."""
    typer.echo(message, err=True)


def fail(message: str, code: Exit) -> NoReturn:
    """End the command with one message."""
    say(message)
    raise typer.Exit(int(code))
