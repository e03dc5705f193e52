"""The command `deletions`."""

import sys

from worker.cli.ends import Exit


def main() -> None:
    """Run the command that the terminal names."""
    # Importing the rest takes most of a second, in which a person may think better of it.
    try:
        from worker.cli.entry import run_command

        run_command()
    except KeyboardInterrupt:
        sys.exit(int(Exit.ENDED_EARLY))
