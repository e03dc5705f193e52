"""The peers: what people do today, each written as its user would write it.

A peer's module offers `purge(link_ids, size)`, which returns how many outcomes
it knows in the end. It finds its surroundings in three variables.
"""

import importlib.util
import sys
from dataclasses import dataclass

#: The broker, and where results are kept.
BROKER_URL = "BENCH_BROKER_URL"
#: The route that deletes.
DELETE_URL = "BENCH_DELETE_URL"
#: A SQLite file for outcomes.
DATABASE = "BENCH_DATABASE"

#: Calls at once of the bare loop: as many as dramatiq's threads, and as our target takes.
IN_FLIGHT = 16

_HERE = "tests.benchmarks.peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them: its module, the libraries it needs, and the arguments of its workers."""

    name: str
    needs: tuple[str, ...]
    worker: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        """A library that is not installed."""
        absent = (name for name in self.needs if importlib.util.find_spec(name) is None)
        return next(absent, None)

    @property
    def driver(self) -> tuple[str, ...]:
        """The program that has everything deleted."""
        return (sys.executable, "-m", f"{_HERE}.driver", self.name)


def _celery(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", f"{_HERE}.{name}", "worker", "-c", "4")


def _dramatiq(name: str) -> tuple[str, ...]:
    program = (sys.executable, "-m", "dramatiq", f"{_HERE}.{name}")
    return (*program, "--processes", "2", "--threads", "8")


CHORD = Peer("chord", ("httpx",), _celery("chord"))
PER_ITEM = Peer("per_item", ("httpx",), _celery("per_item"))
BARE_LOOP = Peer("bare_loop", ("aiohttp",))
DRAMATIQ = Peer("dramatiq_batches", ("dramatiq", "httpx"), _dramatiq("dramatiq_batches"))
