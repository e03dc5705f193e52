"""Builds the command from its parts, and turns failures into one message each."""

import sys

import typer

from worker.cli import commanding, demo, jobs, running, setup, submitting, targets, up
from worker.cli.ends import Exit, exit_of_error, say
from worker.errors import DeletionError

HELP = "Bulk deletion with one honest outcome per item."


def build() -> typer.Typer:
    """Every command, in the order in which a newcomer meets them."""
    app = typer.Typer(
        name="deletions",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for part in (setup, demo, running, submitting, jobs, commanding, targets, up):
        part.register(app)
    return app


def main() -> None:
    """Run the command that the terminal names."""
    # An item may hold characters that the terminal's encoding has not.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        build()()
    except DeletionError as error:
        say(str(error))
        sys.exit(int(exit_of_error(error)))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(int(Exit.ENDED_EARLY))
