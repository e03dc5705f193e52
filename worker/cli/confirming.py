"""Asks the person at the terminal, where there is one."""

import sys

import typer

from worker.cli.ends import Exit, fail


def is_watched() -> bool:
    """Whether a person looks on; without a terminal there is nobody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> None:
    """Go on only if the person says so."""
    if not typer.confirm(question, err=True):
        fail("nothing was done", Exit.ENDED_EARLY)
