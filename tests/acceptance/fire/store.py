"""The results store under fire: a PostgreSQL server of its own, or a SQLite file."""

import fcntl
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy.exc import OperationalError

from tests.postgres import PostgresqlServer, programs
from worker.store.postgresql import CONNECTION


class Database(PostgresqlServer):
    """A server that can crash, and whose sessions can be frozen."""

    def __init__(self) -> None:
        super().__init__(programs())
        self._frozen: set[int] = set()

    @property
    def is_up(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def address(self) -> str:
        """The address of the store."""
        return self.url().render_as_string()

    def crash(self) -> None:
        """End it with no farewell to anybody ("immediate"); it recovers when it starts."""
        self.thaw()
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def start(self) -> None:
        """Start it, if it is not there."""
        if not self.is_up:
            super().start()

    def stop(self) -> None:
        """Stop it, with its frozen sessions too."""
        self.thaw()
        super().stop()

    def freeze_a_session(self) -> bool:
        """SIGSTOP a session of a worker amid a statement or a transaction, if there is one."""
        name = CONNECTION["application_name"]
        try:
            found = self.execute(
                "SELECT pid FROM pg_stat_activity "
                f"WHERE application_name = '{name}' AND state <> 'idle' ORDER BY xact_start LIMIT 1"
            )
        except OperationalError:
            return False
        for (pid,) in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self._frozen.add(pid)
        return bool(found)

    def thaw(self) -> None:
        """SIGCONT all that are frozen."""
        for pid in self._frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen.clear()


class File:
    """A SQLite file beside which somebody else works."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"sqlite:///{path}"

    def hold(self) -> Callable[[], None] | None:
        """Keep the writer's place, as somebody's own client may; how to give it back.

        None if it is taken, for whoever has it may be frozen by us.
        """
        client = sqlite3.connect(self.path, isolation_level=None, timeout=0.1)
        try:
            client.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            client.close()
            return None
        return client.close

    def block_the_queue(self) -> Callable[[], None] | None:
        """Keep the writers' turn, and do nothing with it; how to give it back."""
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return partial(os.close, lock)
