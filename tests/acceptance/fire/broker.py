"""A broker of its own process, that can be killed, emptied and started again."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import redis

from tests.integration.service import wait_until
from worker.embedded.keeper import server_command
from worker.embedded.leash import leashed
from worker.embedded.valkey import answers, find_server
from worker.environment import make_data_dir, socket_path

_STARTING_TAKES = 20.0


class Broker:
    """A Valkey server in a directory of its own; start and kill it from one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = make_data_dir(folder)
        self._kept = folder / "valkey"
        (folder / "logs").mkdir(mode=0o700)
        self.socket = socket_path(folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_up(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it with what it kept; returns when it answers."""
        if self.is_up:
            return
        self._kept.mkdir(mode=0o700, exist_ok=True)
        # One that was killed leaves its socket behind, which nobody listens on.
        self._process = subprocess.Popen(
            leashed(server_command(str(find_server()), self._folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        wait_until(lambda: answers(self.socket), seconds=_STARTING_TAKES)

    def kill(self) -> None:
        """kill -9; safe to repeat."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose_everything(self) -> None:
        """Throw away what a killed one kept."""
        shutil.rmtree(self._kept, ignore_errors=True)

    @contextmanager
    def tapped(self, queues: Sequence[str], *, mouths: int) -> Iterator["Tap"]:
        """Wait in line for messages beside the workers."""
        with ExitStack() as opened:
            client = opened.enter_context(closing(self.connect()))
            opened.callback(client.connection_pool.disconnect)
            connections = [client.connection_pool.get_connection() for _ in range(mouths)]
            yield Tap(connections, queues)

    def drop_answers(self, *, most: int) -> int:
        """Throw away some results that nobody has fetched yet; how many. Raises RedisError."""
        with closing(self.connect()) as client:
            found = list(islice(client.scan_iter("celery-task-meta-*", count=100), most))
            return int(client.delete(*found)) if found else 0

    def connect(self) -> "redis.Redis":
        """A connection past the network; to be closed."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)


class Tap:
    """Several consumers that wait in line, as every worker is one, and are not waited for."""

    def __init__(self, connections: Sequence[Any], queues: Sequence[str]) -> None:
        self._connections = connections
        self._queues = queues
        for connection in connections:
            self._ask(connection)

    def draw(self) -> list[tuple[str, bytes]]:
        """The messages that have come to us since, one a mouth. Raises RedisError."""
        drawn = []
        for connection in self._connections:
            if connection.can_read(timeout=0):
                queue, message = connection.read_response()
                drawn.append((queue.decode(), message))
                self._ask(connection)
        return drawn

    def _ask(self, connection: Any) -> None:
        connection.send_command("BRPOP", *self._queues, 0)
