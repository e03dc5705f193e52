"""A practice server as a process, and the mixed lot that a demonstration deletes from it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Self

from api_adapters.fakes.server import STATE, practice_type
from worker.cli.comparing import Ledger, compare
from worker.cli.lot import Stock, mixed_lot
from worker.cli.vendors import Vendor
from worker.item import Outcome

#: Out of so many items there is one that nobody asks for, and one is missing,
#: doubled, or malformed.
LEFT_EVERY = 20
MISSING_EVERY = 40
DOUBLED_EVERY = 50
MALFORMED_EVERY = 100

#: What may not stand in a configuration.
_SECRETS = {"token", "password", "client_secret", "refresh_token"}


class PracticeBackend:
    """One practice server in a process of its own; it ends with us."""

    def __init__(self, name: str, vendor: Vendor, *, items: int, seed: int) -> None:
        self.name = name
        self._vendor = vendor
        ids = practice_type(name).ids(items + items // MISSING_EVERY, seed=seed)
        asked = [ident for place, ident in enumerate(ids[:items]) if place % LEFT_EVERY]
        # It makes the server refuse whatever it is in.
        poisoned = asked[len(asked) // 2]
        self._lot = mixed_lot(
            Stock(asked, ids[items:], frozenset({poisoned})),
            vendor.spellings,
            doubled=items // DOUBLED_EVERY,
            malformed=items // MALFORMED_EVERY,
            seed=seed,
        )
        self._command = [
            *(sys.executable, "-m", "api_adapters.fakes", name, "--ends-with-parent"),
            *("--items", str(items), "--seed", str(seed)),
            *("--misbehave", vendor.misbehave, "--poison", poisoned),
        ]

    def __enter__(self) -> Self:
        # A session of its own: Ctrl-C is for us, and we stop it last.
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, start_new_session=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        # It closes the pipe as well.
        self._process.communicate()

    @property
    def asked(self) -> list[Any]:
        """The mixed lot that is submitted."""
        return [wanted.item for wanted in self._lot]

    @property
    def configuration(self) -> str:
        """The server as a target."""
        shown, _ = self._settings
        settings = {"adapter": self.name, "base_url": self._where["base_url"], **shown}
        lines = [f"{name} = {_toml(value)}" for name, value in settings.items()]
        return "\n".join([f"[targets.{self.name}]", *lines, self._vendor.options, ""])

    @property
    def environment(self) -> Mapping[str, str]:
        """The secrets that the configuration names."""
        return self._settings[1]

    @property
    def trouble(self) -> str:
        """What went wrong there, by the server's own count."""
        state = self._state()
        faults = [f"{kind} {times}" for kind, times in sorted(state["faults"].items())]
        return f"{state['calls']:,} calls, of which {', '.join(faults) or 'none went wrong'}"

    def faults(self, outcomes: Iterable[Outcome]) -> tuple[int, list[str]]:
        """Hold outcomes against the server's own ledger; how many, and what differs."""
        state = self._state("?ids=1")
        ledger = Ledger(
            remaining=frozenset(state["remaining_ids"]),
            deleted=frozenset(state["deleted_ids"]),
            sent=frozenset(state["asked_ids"]),
        )
        return compare(self._lot, outcomes, ledger)

    @cached_property
    def _where(self) -> dict[str, Any]:
        """What the server says of itself once it listens."""
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        where: dict[str, Any] = json.loads(self._process.stdout.readline())
        return where

    @property
    def _settings(self) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        return hide_secrets(self._where["settings"], prefix=f"DELETIONS_DEMO_{self.name}")

    def _state(self, query: str = "") -> dict[str, Any]:
        # Whatever the environment says: no proxy lies between us and a neighbour.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self._where['url']}{STATE}{query}") as answer:
            state: dict[str, Any] = json.load(answer)
        return state


def hide_secrets(
    settings: Mapping[str, Any], *, prefix: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings as they may be written down, and the variables that hold the rest.

    >>> hide_secrets({"table_id": "t", "token": "s"}, prefix="demo")
    ({'table_id': 't', 'token': {'env': 'DEMO_TOKEN'}}, {'DEMO_TOKEN': 's'})
    """
    shown: dict[str, Any] = {}
    hidden: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            shown[name], inner = hide_secrets(value, prefix=prefix)
            hidden |= inner
        elif name in _SECRETS:
            variable = f"{prefix}_{name}".upper()
            shown[name], hidden[variable] = {"env": variable}, value
        else:
            shown[name] = value
    return shown, hidden


def _toml(value: Any) -> str:
    """A value as TOML, tables in one line; a text in JSON is one in TOML, too."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value)
