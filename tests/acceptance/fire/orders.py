"""What is asked to be deleted: mostly ids that are there; others miss, are double, or malformed."""

import random
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api_adapters.fakes.base import Practice

#: Out of so many items one is missing, doubled, or malformed.
MISSING_EVERY = 25
DOUBLED_EVERY = 30
MALFORMED_EVERY = 150

#: What no target takes, whatever its adapter.
_MALFORMED: tuple[Any, ...] = ("", {"id": 1}, None, 1.5, "../contacts", "no,id", True, ["a"])


@dataclass(frozen=True, slots=True)
class Order:
    """One job, with the key of every item; None for one that no target takes."""

    job: str
    target: str
    items: tuple[Any, ...]
    keys: tuple[str | None, ...]
    #: It is cancelled a moment after it was accepted.
    is_cancelled: bool = False

    @property
    def expected(self) -> dict[int, str | None]:
        """The key of every position that has an outcome of its own."""
        seen: set[str] = set()
        found = {}
        for position, key in enumerate(self.keys):
            if key is None or key not in seen:
                found[position] = key
            if key is not None:
                seen.add(key)
        return found


class Stock:
    """What one vendor holds. No id is handed out twice, and the first ones never."""

    def __init__(
        self, kind: type[Practice], *, items: int, seed: int, bystanders: int = 50
    ) -> None:
        # The ids are drawn from the bare seed, and must not come again as ids of jobs.
        self._dice = random.Random(f"orders {seed}")
        self.ids = kind.ids(items, seed=seed)
        self.bystanders = frozenset(self.ids[:bystanders])
        self._rest = self.ids[bystanders:]
        self._missing = kind.ids(items // 4 + 100, seed=seed + 1_000_000)

    def order(self, target: str, count: int, *, is_cancelled: bool = False) -> Order:
        """A mixed order of about so many items."""
        there = self._take(self._rest, count - count // MISSING_EVERY)
        keys = [*there, *self._take(self._missing, count // MISSING_EVERY)]
        asked: list[tuple[Any, str | None]] = [(key, key) for key in keys]
        for _ in range(count // DOUBLED_EVERY):
            key = self._dice.choice(keys)
            asked.append((_spelled_otherwise(key), key))
        malformed = self._dice.choices(_MALFORMED, k=count // MALFORMED_EVERY)
        asked += [(item, None) for item in malformed]
        self._dice.shuffle(asked)
        items, own = zip(*asked, strict=True)
        job = str(UUID(int=self._dice.getrandbits(128), version=4))
        return Order(job, target, tuple(items), tuple(own), is_cancelled)

    def _take(self, ids: list[str], count: int) -> list[str]:
        assert len(ids) >= count, "the vendor holds too few items for these orders"
        taken = ids[:count]
        del ids[:count]
        return taken


def _spelled_otherwise(key: str) -> str:
    """The same key as people write it too: UUIDs have no case."""
    return key.upper() if len(key) == 36 else key
