"""Builds the command from its parts, and turns failures into one message each."""

import gc
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from worker.cli import (
    commanding,
    demo,
    jobs,
    metrics,
    protecting,
    pruning,
    purges,
    running,
    setup,
    submitting,
    targets,
    up,
)
from worker.cli.ends import Exit, exit_of_error, fail
from worker.errors import DeletionError

HELP = "Bulk deletion with one honest outcome per item."


class Commands(TyperGroup):
    """All commands; how they fail is said here, in one place."""

    def invoke(self, ctx: Any) -> Any:  # the context's class is typer's own affair
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except DeletionError as error:
            fail(str(error), exit_of_error(error))
        # Typer itself would end with 130, and with 1 where its question was left.
        except (KeyboardInterrupt, typer.Abort):
            fail("interrupted", Exit.ENDED_EARLY)


def build() -> typer.Typer:
    """Every command, in the order in which a newcomer meets them."""
    app = typer.Typer(
        name="deletions",
        cls=Commands,
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    work = (running, submitting, jobs, commanding)
    upkeep = (protecting, purges, pruning, targets, metrics, up)
    for part in (setup, demo, *work, *upkeep):
        part.register(app)
    return app


def run_command() -> None:
    """Run the command that the terminal names."""
    # An item may hold characters that the terminal's encoding has not.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        build()()
    finally:
        # The process ends: looking all modules through for garbage takes 0.1 s.
        gc.freeze()
