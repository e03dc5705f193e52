"""A real service to test against: broker, workers, store, and practice backends.

with Service(targets={"crm": Target(items=100)}) as service:
    with service.client() as client: ...
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from api_adapters.fakes.base import Practice
from api_adapters.fakes.server import PracticeServer, open_practice
from tests.opened import Opened
from worker.client import DeletionClient, NoAnswer, Refused
from worker.embedded.commands import child_environ, worker_command
from worker.embedded.processes import Processes
from worker.embedded.valkey import Valkey, find_server
from worker.environment import DATA_DIR, read_environment, socket_path
from worker.errors import BadConfiguration

#: Settings that a configuration takes from the environment alone.
_SECRETS = frozenset({"password", "token", "client_secret", "refresh_token"})
#: A single worker has nobody to greet, and waits a second for it.
_ALONE = ("--without-mingle", "--without-gossip")
_STARTING_TAKES = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """A target on a practice backend of its own, that holds `items` things to delete."""

    vendor: str = "bas_ip"
    items: int = 0
    seed: int = 0
    misbehave: str = ""
    latency: float = 0
    #: More lines of its table, such as `{"max_items_per_call": 1000}`.
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Practice:
        """Its backend."""
        return open_practice(
            self.vendor,
            items=self.items,
            seed=self.seed,
            misbehave=self.misbehave,
            latency=self.latency,
        )


class Service(Opened):
    """One deployment in a directory of its own; use it in a `with` statement.

    The practice backends run on threads of this process, so a test may look
    into them and alter them. Start and stop it from one thread.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        targets: Mapping[str, Target] | None = None,
        toml_extra: str = "",
        environ: Mapping[str, str] | None = None,
        worker_options: tuple[str, ...] = _ALONE,
    ) -> None:
        self._workers = workers
        self._targets = {"monitor": Target()} if targets is None else dict(targets)
        self._toml_extra = toml_extra
        self._worker_options = worker_options
        self._given_environ = {**os.environ, **(environ or {})}
        super().__init__()
        self.practices: dict[str, Practice] = {}

    def _open(self, opened: ExitStack) -> None:
        need_a_server()
        # A short path: a Unix socket's is at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="service-", dir="/tmp"))
        opened.callback(shutil.rmtree, self.directory)
        self.data_dir = self.directory / "data"
        self.configuration = self.directory / "deletions.toml"
        secrets = self._open_practices(opened)
        self.environ = self._environ(secrets)
        self.broker_url: str = opened.enter_context(Valkey(self.data_dir))
        self.processes = Processes(self.data_dir, environ=self.environ)
        opened.callback(self.processes.stop, grace=timedelta(seconds=20))
        for _ in range(self._workers):
            self.start_worker()
        if self._workers:
            self._wait_for_an_answer()

    @property
    def practice(self) -> Practice:
        """The backend of the first target."""
        return next(iter(self.practices.values()))

    @property
    def target(self) -> str:
        """The name of the first target."""
        return next(iter(self.practices))

    def client(self, *, timeout: timedelta = timedelta(seconds=60)) -> DeletionClient:
        """A client of this service; to be closed."""
        return DeletionClient(self.broker_url, timeout=timeout)

    def redis(self) -> redis.Redis:
        """What the broker and result backend holds; to be closed."""
        return redis.Redis(unix_socket_path=str(socket_path(self.data_dir)))

    def logs(self) -> dict[str, str]:
        """What every process has logged so far, by file name."""
        return {path.name: path.read_text() for path in (self.data_dir / "logs").iterdir()}

    def start_worker(self, *options: str) -> int:
        """Start one more worker; its process id."""
        number = len(self.processes.pids()) + 1
        return self.processes.start(worker_command(number, *self._worker_options, *options))

    def _open_practices(self, opened: ExitStack) -> dict[str, str]:
        """Serve the targets' backends and write the configuration; its secrets by variable."""
        secrets: dict[str, str] = {}
        tables = []
        for name, target in self._targets.items():
            practice = target.open()
            server = opened.enter_context(PracticeServer(practice))
            self.practices[name] = practice
            lines = {"adapter": target.vendor, "base_url": server.base_url, **target.options}
            table = [f"[targets.{name}]", *(f"{key} = {json.dumps(lines[key])}" for key in lines)]
            for key, value in practice.settings.items():
                variable = f"PRACTICE_{name}_{key}".upper().replace("-", "_")
                if isinstance(value, dict):
                    # A login of several parts.
                    hidden = {
                        part: f"{variable}_{part}".upper() for part in _SECRETS & value.keys()
                    }
                    secrets |= {one: value[part] for part, one in hidden.items()}
                    inner = [
                        f'{part} = {{ env = "{hidden[part]}" }}'
                        if part in hidden
                        else f"{part} = {json.dumps(shown)}"
                        for part, shown in value.items()
                    ]
                    table.append(f"{key} = {{ {', '.join(inner)} }}")
                elif key in _SECRETS:
                    secrets[variable] = value
                    table.append(f'{key} = {{ env = "{variable}" }}')
                else:
                    table.append(f"{key} = {json.dumps(value)}")
            tables.append("\n".join(table))
        self.configuration.write_text("\n\n".join([*tables, self._toml_extra]) + "\n")
        return secrets

    def _environ(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The environment of every process of the service, and of a command line beside it."""
        named = {DATA_DIR: str(self.data_dir)}
        places = read_environment(named, configuration=self.configuration, cwd=self.directory)
        return {**child_environ(self._given_environ, places), **secrets}

    def _wait_for_an_answer(self) -> None:
        until = time.monotonic() + _STARTING_TAKES
        with self.client(timeout=timedelta(seconds=3)) as client:
            # A worker that has died will not answer; why is in its log.
            while time.monotonic() < until and self.processes.pids():
                try:
                    client.status(str(uuid4()))
                except Refused:
                    return
                except NoAnswer:
                    continue
        logs = "".join(f"\n--- {name}\n{text[-3000:]}" for name, text in self.logs().items())
        pytest.fail(f"no worker answers on {self.broker_url}:{logs}")


def wait_until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait until something has come true; the time is what a slow machine may need."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true"
        time.sleep(0.02)


def need_a_server() -> None:
    """Without a broker for this platform: skip at home, fail where CI is set."""
    try:
        find_server()
    except BadConfiguration as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
