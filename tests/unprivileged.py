"""Runs a command that cannot outlive its parent, as `nobody` where we are root.

    python -I -S unprivileged.py PARENT COMMAND...

It becomes that user itself, because the interpreter may lie where only root
can read it; the kernel forgets the wish for a signal when the user changes, so
that comes second. Otherwise it does what `worker.embedded.leash` does.
"""

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

USER = "nobody"
_PR_SET_PDEATHSIG = 1


def unprivileged(command: list[str]) -> list[str]:
    """The same command as another user, on a leash of this process."""
    here = str(Path(__file__).resolve())
    return [sys.executable, "-I", "-S", here, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> None:
    """Become the user, put on the leash, become the command."""
    libc = ctypes.CDLL(None)
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    if sys.platform == "linux":
        # Fast shutdown: it does not wait for those who are connected.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            sys.exit("the process that wanted this one has gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
