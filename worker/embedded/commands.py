"""The commands of the workers and the clock, as a person would type them."""

import sys
from collections.abc import Mapping
from pathlib import Path

from worker.embedded.processes import Command
from worker.environment import FLOWER_PASSWORD, Environment

CELERY = (sys.executable, "-m", "celery", "-A", "worker.app")


def child_environ(environ: Mapping[str, str], places: Environment) -> dict[str, str]:
    """Our environment for a child: the places resolved, and nothing that is Flower's.

    What targets need for their secrets stays; Flower reads every `FLOWER_...`,
    so a forgotten one could open what we close.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith("FLOWER_") and name != FLOWER_PASSWORD
    }
    return {**inherited, **places.variables()}


def worker_command(number: int | str, *options: str) -> Command:
    """A worker with a name that stays the same over restarts, as Flower's metrics need it."""
    arguments = ("worker", "-n", f"worker{number}@%h", "--loglevel=INFO", *options)
    return Command(f"worker{number}", (*CELERY, *arguments))


def clock_command(data_dir: Path) -> Command:
    """The clock; what is due, and that it runs once, is decided in the store."""
    arguments = ("beat", f"--schedule={data_dir / 'clock-schedule'}", "--loglevel=INFO")
    return Command("clock", (*CELERY, *arguments))
