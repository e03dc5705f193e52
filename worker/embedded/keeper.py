"""The process that owns the embedded server: one a data directory.

    python -P -m worker.embedded.keeper SERVER DATA_DIR

Every process that uses the server holds a shared lock on `users.lock`. The
keeper asks for that lock exclusively, which the kernel grants when the last
user has gone, however it ended; then it stops the server, with all data kept,
and leaves. A user that comes meanwhile waits for its shared lock, and starts
the next keeper.

The keeper's own lock is passed on to the server, so it is free only when both
have ended: two servers never write the same files. The keeper listens to no
polite signal. A service manager sends SIGTERM to all processes at once, and
the workers need their broker until they have drained.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from worker.embedded.leash import leashed

USERS_LOCK = "users.lock"
KEEPER_LOCK = "keeper.lock"

_STOPPING_TAKES = 10.0
_LONGEST_PAUSE = 5.0
_OWN_FILE = 0o600


def open_lock(path: Path) -> int:
    """Open a lock file; closing the descriptor, or dying, gives the lock back."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWN_FILE)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a lock (`fcntl.LOCK_SH` or `LOCK_EX`) if nobody stands against it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def server_command(server: str, data_dir: Path) -> list[str]:
    """The server: on a Unix socket alone, durable, and never throwing messages away."""
    options = {
        "port": "0",
        "unixsocket": str(data_dir / "valkey.sock"),
        "unixsocketperm": "700",
        "dir": str(data_dir / "valkey"),
        "logfile": str(data_dir / "logs" / "valkey.log"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [server, *arguments]


class Keeper:
    """Runs the server, again if it dies, until the last user has gone."""

    def __init__(self, command: list[str], *, users_lock: int, own_lock: int) -> None:
        self._command = command
        self._users_lock = users_lock
        self._own_lock = own_lock
        self._server: subprocess.Popen[bytes] | None = None
        self._nobody_left = threading.Event()

    def keep(self) -> None:
        """Return when the server has been stopped."""
        threading.Thread(target=self._wait_for_last_user, daemon=True).start()
        pause = 0.05
        while not self._nobody_left.is_set():
            self._server = subprocess.Popen(
                leashed(self._command), pass_fds=[self._own_lock], cwd="/"
            )
            # The other thread may have looked for a server before there was this one.
            if self._nobody_left.is_set():
                _stop(self._server)
            self._server.wait()
            self._nobody_left.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _wait_for_last_user(self) -> None:
        fcntl.flock(self._users_lock, fcntl.LOCK_EX)
        self._nobody_left.set()
        if self._server is not None:
            _stop(self._server)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_STOPPING_TAKES)
    except subprocess.TimeoutExpired:
        server.kill()


def main(server: str, data_dir: Path) -> None:
    """Become the keeper of a data directory, unless there is one."""
    os.umask(0o077)
    own_lock = open_lock(data_dir / KEEPER_LOCK)
    if not try_lock(own_lock, fcntl.LOCK_EX):
        return
    # The user that started us waits for this exit, and has no child to reap later.
    if os.fork():
        os._exit(0)
    for polite in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler, not SIG_IGN, which the server would inherit.
        signal.signal(polite, lambda *_: None)
    users_lock = open_lock(data_dir / USERS_LOCK)
    command = server_command(server, data_dir)
    Keeper(command, users_lock=users_lock, own_lock=own_lock).keep()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
