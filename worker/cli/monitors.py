"""Practice monitors as processes, and the mixed lot that a demonstration deletes from one."""

import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from api_adapters.fakes.base import practice_ids

#: Out of so many items of a lot one is missing, doubled, or malformed.
MISSING_EVERY = 40
DOUBLED_EVERY = 50
MALFORMED_EVERY = 400

#: The variable that holds the practice password.
PASSWORD = "DELETIONS_DEMO_PASSWORD"  # noqa: S105 (a variable's name)

_MALFORMED: tuple[Any, ...] = ("", "no-uuid", "42", 42, {"link_id": 1}, None, 1.5, "../contacts")


@dataclass(frozen=True, slots=True)
class Lot:
    """What is asked for, and what is really there."""

    there: tuple[str, ...]
    asked: tuple[Any, ...]
    poisoned: str


def mixed_lot(count: int, *, seed: int) -> Lot:
    """`count` ids that are there, with missing, double and malformed ones among them."""
    dice = random.Random(seed)  # noqa: S311 (a demonstration that can be repeated)
    there = practice_ids(count, seed=seed)
    missing = practice_ids(count // MISSING_EVERY, seed=seed + 1_000)
    doubled = [dice.choice(there).upper() for _ in range(count // DOUBLED_EVERY)]
    malformed = [dice.choice(_MALFORMED) for _ in range(count // MALFORMED_EVERY)]
    asked = [*there, *missing, *doubled, *malformed]
    dice.shuffle(asked)
    return Lot(tuple(there), tuple(asked), poisoned=dice.choice(there))


class Monitor:
    """One practice server in a process of its own; it ends with us."""

    def __init__(self, name: str, *, items: int, seed: int, misbehave: str) -> None:
        self.name = name
        self.lot = mixed_lot(items, seed=seed)
        self._command = [
            sys.executable,
            *("-m", "api_adapters.fakes", "bas_ip", "--ends-with-parent"),
            *("--items", str(items), "--seed", str(seed), "--misbehave", misbehave),
        ]

    def __enter__(self) -> Self:
        # A session of its own: Ctrl-C is for us, and we stop it last.
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, start_new_session=True
        )
        where = json.loads(self._output().readline())
        self.base_url: str = where["base_url"]
        self.settings: dict[str, str] = where["settings"]
        self._url: str = where["url"]
        self.tell({"poison": [self.lot.poisoned]})
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._output().close()

    def tell(self, orders: dict[str, Any]) -> None:
        """Give the practice server orders."""
        self._ask("", json.dumps(orders).encode())

    def state(self) -> dict[str, Any]:
        """The practice server's own ledger, item by item."""
        return self._ask("?ids", None)

    @property
    def asked(self) -> list[Any]:
        """The mixed lot that is submitted."""
        return list(self.lot.asked)

    @property
    def configuration(self) -> str:
        """The monitor as a target: each of them is a backend of its own."""
        return f"""
[targets.{self.name}]
adapter = "bas_ip"
base_url = "{self.base_url}"
username = "{self.settings["username"]}"
password = {{ env = "{PASSWORD}" }}
"""

    def faults(self, outcomes: Iterator[dict[str, Any]]) -> tuple[int, list[str]]:
        """Hold outcomes against the server's own ledger; how many, and what differs."""
        ledger = self.state()
        remaining = set(ledger["remaining_ids"])
        asked = {str(one).lower() for one in self.lot.asked}
        faults = [
            f"{self.name}: {key} was deleted and nobody asked for it"
            for key in set(ledger["deleted_ids"]) - asked
        ]
        number = 0
        for row in outcomes:
            number += 1
            key = str(row["item"]).lower()
            if row["verdict"] in {"deleted", "absent"} and key in remaining:
                faults.append(f"{self.name}: {key} is called {row['verdict']} and is still there")
            if row["verdict"] == "deleted" and key not in ledger["deleted_ids"]:
                faults.append(f"{self.name}: {key} is called deleted and was not there")
        return number, faults

    def _output(self) -> Any:
        return self._process.stdout

    def _ask(self, query: str, body: bytes | None) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}/_practice/state{query}", body) as answer:  # noqa: S310 (our own server)
            ledger: dict[str, Any] = json.load(answer)
        return ledger
