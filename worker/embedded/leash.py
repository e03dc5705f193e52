"""Runs a command that cannot outlive the process that started it.

    python -I -S leash.py PARENT COMMAND...

The kernel sends the command SIGTERM when its parent has gone, even by kill -9
(Linux; elsewhere the command simply runs). It stands in a program of its own
because the wish survives `exec`, and because doing it between fork and exec is
not safe in a process with threads.

The parent is the *thread* that started the command: start it from one that
lives as long as the process.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def leashed(command: list[str]) -> list[str]:
    """The same command on a leash of this process; its process id stays the same."""
    here = str(Path(__file__).resolve())
    return [sys.executable, "-I", "-S", here, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> None:
    """Put on the leash and become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have gone before the kernel was asked.
        if os.getppid() != parent:
            sys.exit("the process that wanted this one has gone")
    os.execv(command[0], command)  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
