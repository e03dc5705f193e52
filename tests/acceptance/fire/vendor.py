"""A practice server in a process of its own, at the end of a line that can be cut."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from api_adapters import registry
from api_adapters.fakes.base import Practice
from tests.acceptance.fire.network import HOST, Line, Network
from tests.acceptance.fire.orders import Stock

_SECRETS = frozenset({"password", "token", "client_secret", "refresh_token"})


@dataclass(frozen=True, slots=True)
class Backend:
    """A target, and the practice server that it is."""

    target: str
    vendor: str
    items: int
    misbehave: str = ""
    #: Seconds that each deletion takes.
    latency: float = 0.0
    max_attempts: int = 20
    #: More lines of its table.
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def can_probe(self) -> bool:
        """Whether its adapter can look if an item is there."""
        return registry.load(self.vendor).can_probe

    def stock(self, seed: int) -> Stock:
        """What it holds."""
        kind: type[Practice] = import_module(f"api_adapters.fakes.{self.vendor}").Backend
        return Stock(kind, items=self.items, seed=seed)


class Vendor:
    """One practice server; use it in a `with` statement."""

    def __init__(self, backend: Backend, network: Network, *, seed: int) -> None:
        self.backend = backend
        self._network = network
        self._seed = seed
        self.secrets: dict[str, str] = {}

    def __enter__(self) -> Self:
        given = self.backend
        options = {
            "--items": given.items,
            "--seed": self._seed,
            "--misbehave": given.misbehave,
            "--latency": given.latency,
        }
        arguments = [str(part) for option in options.items() for part in option]
        command = [sys.executable, "-m", "api_adapters.fakes", given.vendor, "--ends-with-parent"]
        self._process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        where = json.loads(self._process.stdout.readline())
        self._url: str = where["url"]
        self.line: Line = self._network.lay(HOST, where["port"])
        self._base_url = where["base_url"].replace(self._url, f"http://{HOST}:{self.line.port}")
        self._settings: dict[str, Any] = where["settings"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def configuration(self) -> str:
        """Its table; what is secret in it is in `secrets` afterwards."""
        given = self.backend
        lines = {
            "adapter": given.vendor,
            "base_url": self._base_url,
            "max_attempts": given.max_attempts,
            **given.options,
        }
        table = [f"{name} = {json.dumps(value)}" for name, value in lines.items()]
        table += [f"{name} = {self._value(name, one)}" for name, one in self._settings.items()]
        return "\n".join([f"[targets.{given.target}]", *table])

    def misbehave(self, plan: str | None = None) -> None:
        """Follow another plan of faults, or the first one again."""
        self._ask("", {"misbehave": self.backend.misbehave if plan is None else plan})

    def poison(self, ids: list[str]) -> None:
        """Let each of these ids make the server refuse the whole call."""
        self._ask("", {"poison": ids})

    def ledger(self) -> dict[str, Any]:
        """What was really asked and deleted, item by item."""
        return self._ask("?ids", None)

    def _value(self, name: str, value: Any) -> str:
        if isinstance(value, dict):
            inner = [f"{key} = {self._value(key, one)}" for key, one in value.items()]
            return "{ " + ", ".join(inner) + " }"
        if name not in _SECRETS:
            return json.dumps(value)
        variable = f"FIRE_{self.backend.target}_{name}".upper()
        self.secrets[variable] = value
        return f'{{ env = "{variable}" }}'

    def _ask(self, query: str, orders: dict[str, Any] | None) -> dict[str, Any]:
        """Past the network, so that it answers however much of that is cut."""
        body = None if orders is None else json.dumps(orders).encode()
        with urllib.request.urlopen(f"{self._url}/_practice/state{query}", body, 30) as answer:
            told: dict[str, Any] = json.load(answer)
        return told
