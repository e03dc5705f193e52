"""One run of the benchmarks: how large, how often, and what was seen."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.benchmarks.peers.base import Peer
from tests.postgres import PostgresqlServer

#: What a deployment would run with: all that `tests.postgres` leaves out for speed.
DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
#: So many calls are the least that a scaled-down run makes.
_LEAST = 2


class PeerMissing(Exception):
    """A peer's library is not installed where every row has to be measured."""


@dataclass(slots=True)
class Bench:
    """What the parts share."""

    postgresql: PostgresqlServer
    #: How often a part is repeated, whose contestants take turns.
    runs: int
    #: The share of the items that the table names.
    scale: float
    #: Worker processes of ours.
    workers: int
    #: What was seen, as series by name.
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, series: str, value: float) -> None:
        """Add to a series."""
        self.figures[series].append(value)

    def items(self, count: int, *, size: int = 1) -> int:
        """So many items at this scale, in whole calls of `size`."""
        return max(int(count * self.scale) // size, _LEAST) * size

    def rounds(self, part: str) -> Iterator[int]:
        """One number a repetition."""
        for number in range(1, self.runs + 1):
            say(f"{part}: {number} of {self.runs}")
            yield number

    @contextmanager
    def store(self) -> Iterator[str]:
        """An empty database for a store, as a URL."""
        name = self.postgresql.make_database()
        try:
            yield self.postgresql.url(name).render_as_string()
        finally:
            self.postgresql.drop_database(name)
            # What is left to write must not slow down whoever is next.
            self.postgresql.execute("CHECKPOINT")


def say(text: str) -> None:
    """Tell who waits how far it is."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def available(*peers: Peer) -> Sequence[Peer]:
    """Those whose library is installed.

    Raises:
        PeerMissing: one is not, and CI is set.
    """
    there = []
    for peer in peers:
        if peer.missing is None:
            there.append(peer)
            continue
        message = f"{peer.name} is not measured: {peer.missing} is not installed"
        if os.environ.get("CI"):
            raise PeerMissing(message)
        say(message)
    return there
