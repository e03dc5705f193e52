"""The command `deletions`."""

from worker.cli.entry import main as main
