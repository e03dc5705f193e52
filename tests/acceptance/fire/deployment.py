"""A whole deployment that can be damaged: broker, store, workers, clock, vendors, network.

with Deployment([Backend("monitor", "bas_ip", items=1000)], store=StoreKind.SQLITE) as one: ...
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from tests.acceptance.fire.broker import Broker
from tests.acceptance.fire.crew import Crew
from tests.acceptance.fire.network import HOST, Network
from tests.acceptance.fire.orders import Stock
from tests.acceptance.fire.store import Database, File
from tests.acceptance.fire.vendor import Backend, Vendor
from tests.integration.service import need_a_server, wait_until
from tests.opened import Opened
from worker.client import DeletionClient, NoAnswer, Refused
from worker.embedded.commands import child_environ
from worker.environment import BROKER_URL, DATA_DIR, STORE_URL, make_data_dir, read_environment

_STARTING_TAKES = 60.0


class StoreKind(StrEnum):
    """Where the truth is kept."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Deployment(Opened):
    """Everything as a user runs it, each part a process of its own.

    Use it in a `with` statement, from one thread.
    """

    def __init__(
        self, backends: Sequence[Backend], *, store: StoreKind, seed: int = 0, workers: int = 3
    ) -> None:
        self._backends = backends
        self._kind = store
        self._workers = workers
        self._seed = seed
        super().__init__()
        self.vendors: dict[str, Vendor] = {}
        self.stocks: dict[str, Stock] = {}
        #: The store, as the one or as the other.
        self.database: Database | None = None
        self.file: File | None = None
        #: Messages that were taken from the broker, and that were put there again.
        self.lost = 0
        self.doubled = 0
        #: Messages that were seen, to be sent once more much later.
        self.stale: list[tuple[str, bytes]] = []
        #: What went wrong with the processes themselves; whole when all have ended.
        self.faults: list[str] = []

    def _open(self, opened: ExitStack) -> None:
        need_a_server()
        # A short path: a Unix socket's is at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="fire-", dir="/tmp"))
        opened.callback(shutil.rmtree, self.folder)
        self.data_dir = make_data_dir(self.folder / "data")
        self.network = opened.enter_context(Network())
        self.broker = Broker(self.folder / "broker")
        opened.callback(self.broker.kill)
        self.broker.start()
        self.broker_line = self.network.lay_to_socket(str(self.broker.socket))
        self.broker_url = f"redis://{HOST}:{self.broker_line.port}/0"
        self._open_store(opened)
        self._open_vendors(opened)
        self.crew = Crew(self.data_dir, workers=self._workers, environ=self._environ())
        opened.callback(self._dismiss)
        self.crew.start_all()
        self._wait_for_an_answer()

    @property
    def lease(self) -> timedelta:
        """How long what a lost worker had claimed stays its own, at most."""
        from worker.deleting import LEASE_MARGIN

        return LEASE_MARGIN + timedelta(seconds=2)

    def heal(self) -> None:
        """Let every part be sound again; safe to repeat."""
        self.broker_line.restore()
        self.broker.start()
        if self.database is not None:
            self.database.thaw()
            self.database.start()
        for vendor in self.vendors.values():
            vendor.line.restore()
            vendor.misbehave()
        self.crew.thaw_all()
        self.crew.start_all()

    def client(self, *, timeout: timedelta = timedelta(seconds=12)) -> DeletionClient:
        """A client of this deployment; to be closed."""
        return DeletionClient(self.broker_url, timeout=timeout)

    def any_vendor(self, dice: Random) -> Vendor:
        """One of them."""
        return dice.choice(list(self.vendors.values()))

    def _open_store(self, opened: ExitStack) -> None:
        if self._kind is StoreKind.SQLITE:
            self.file = File(self.data_dir / "store.sqlite3")
            self.store_url = self.file.address
            return
        self.database = Database()
        opened.callback(self.database.remove)
        self.database.make()
        self.database.start()
        self.store_url = self.database.address

    def _open_vendors(self, opened: ExitStack) -> None:
        for number, backend in enumerate(self._backends):
            seed = self._seed * 100 + number
            vendor = opened.enter_context(Vendor(backend, self.network, seed=seed))
            self.vendors[backend.target] = vendor
            self.stocks[backend.target] = backend.stock(seed)

    def _environ(self) -> dict[str, str]:
        """The environment of every process of ours, as `deletions up` makes it."""
        configuration = self.folder / "deletions.toml"
        tables = [vendor.configuration for vendor in self.vendors.values()]
        configuration.write_text("\n\n".join(tables) + "\n")
        given = {name: value for name, value in os.environ.items() if "DELETIONS_" not in name}
        given |= {
            DATA_DIR: str(self.data_dir),
            BROKER_URL: self.broker_url,
            STORE_URL: self.store_url,
        }
        places = read_environment(given, configuration=configuration, cwd=self.folder)
        secrets = {
            name: value
            for vendor in self.vendors.values()
            for name, value in vendor.secrets.items()
        }
        return {**child_environ(given, places), **secrets}

    def _wait_for_an_answer(self) -> None:
        def answers() -> bool:
            with self.client(timeout=timedelta(seconds=3)) as client:
                try:
                    client.status(str(uuid4()))
                except Refused:
                    return True
                except NoAnswer:
                    return False
            return False

        try:
            wait_until(answers, seconds=_STARTING_TAKES)
        except AssertionError:
            logs = (f"\n--- {name}\n{text[-3000:]}" for name, text in self.crew.logs().items())
            pytest.fail(f"no worker answers:{''.join(logs)}")

    def _dismiss(self) -> None:
        """End the crew; whoever does not end is a fault."""
        self.faults += [f"{name} did not end when it was asked to" for name in self.crew.end()]
