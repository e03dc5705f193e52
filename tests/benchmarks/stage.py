"""What one run stands on: a folder, a broker, practice servers, and processes around them.

with Stage() as stage:
    monitor = stage.open_monitor(latency=0.1)
    stage.children.start("worker", ...)
"""

import json
import os
import shutil
import socket
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.children import Child, Children, waiting
from tests.benchmarks.monitor import HOST, STATE
from tests.opened import Opened
from worker.embedded.valkey import find_server

ROOT = Path(__file__).parents[2]
#: Nothing is kept on disk, which spares the peers more than us: what they know is in there.
_UNKEPT = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
_STARTING_TAKES = 20.0


class Monitor:
    """A practice server that runs."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.port: int = child.says()["port"]
        self.url = f"http://{HOST}:{self.port}"

    def ledger(self) -> dict[str, Any]:
        """How many calls and items there were, and when the first one came."""
        return self._ask(None)

    def reset(self, *, latency: float = 0) -> None:
        """Begin to count anew."""
        self._ask(json.dumps({"latency": latency}).encode())

    def _ask(self, body: bytes | None) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + STATE, body, 30) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


class Stage(Opened):
    """One run's surroundings; use it in a `with` statement, from one thread."""

    def __init__(self) -> None:
        super().__init__()

    def _open(self, opened: ExitStack) -> None:
        # A short path: a Unix socket's is at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
        opened.callback(shutil.rmtree, self.folder)
        given = {name: one for name, one in os.environ.items() if "DELETIONS_" not in name}
        environ = {**given, "PYTHONPATH": str(ROOT)}
        self.children = Children(self.folder / "children", environ=environ)
        opened.callback(self.children.end)
        self._start_broker()

    @property
    def redis_mib(self) -> float:
        """The most memory that the broker has had at once."""
        return self._broker.peak_mib

    def open_monitor(self, *, latency: float = 0) -> Monitor:
        """Start one more practice server."""
        program = (sys.executable, "-m", "tests.benchmarks.monitor")
        return Monitor(self.children.start("monitor", *program, "--latency", str(latency)))

    def _start_broker(self) -> None:
        """A Redis server on TCP, as in production; ours and all peers have the same."""
        port = _free_port()
        command = (str(find_server()), "--port", str(port), "--bind", HOST, *_UNKEPT)
        self._broker = self.children.start("redis", *command)
        self.broker_url = f"redis://{HOST}:{port}/0"
        for _ in waiting(seconds=_STARTING_TAKES, check=self.children.check):
            if _answers(port):
                return


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1) as peer:
            peer.sendall(b"PING\r\n")
            return peer.recv(64).startswith(b"+PONG")
    except OSError:
        return False
