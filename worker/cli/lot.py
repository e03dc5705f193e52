"""The mixed lot of a demonstration: what is there, missing, held, doubled and malformed."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What stands behind a place of the lot."""

    THERE = "there"  #: it exists, and goes when it is asked to
    HELD = "held"  #: the backend does not let it go, or does not take the item
    MISSING = "missing"  #: there is no such thing
    MALFORMED = "malformed"  #: the adapter refuses it


@dataclass(frozen=True, slots=True)
class Wanted:
    """One place of the lot; `ident` is the backend's own name, None for a malformed one."""

    item: Any
    ident: str | None
    kind: Kind


@dataclass(frozen=True, slots=True)
class Spellings:
    """How the things of a backend are written as items."""

    #: The item of an ident, and another that the adapter takes for the same.
    write: Callable[[str], Any] = str
    respell: Callable[[str], Any] = str
    #: Items that the adapter refuses.
    malformed: Sequence[Any] = ()
    #: Items that look right, and that the adapter refuses once it has asked the backend.
    refused: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Stock:
    """What a lot is made of, by ident."""

    there: Sequence[str]
    missing: Sequence[str] = ()
    held: frozenset[str] = field(default_factory=frozenset)


def mixed_lot(
    stock: Stock, spellings: Spellings, *, doubled: int, malformed: int, seed: int
) -> list[Wanted]:
    """A place for all of the stock, some of it twice, and some that is no item at all.

    >>> lot = mixed_lot(Stock(["a"], ["b"]), Spellings(), doubled=1, malformed=0, seed=1)
    >>> sorted(wanted.item for wanted in lot)
    ['a', 'a', 'b']
    """
    dice = random.Random(seed)  # noqa: S311 (a demonstration that can be repeated)

    def place(ident: str, write: Callable[[str], Any]) -> Wanted:
        return Wanted(write(ident), ident, Kind.HELD if ident in stock.held else Kind.THERE)

    lot = [place(ident, spellings.write) for ident in stock.there]
    lot += [place(dice.choice(stock.there), spellings.respell) for _ in range(doubled)]
    lot += [Wanted(spellings.write(ident), ident, Kind.MISSING) for ident in stock.missing]
    lot += [Wanted(item, json.dumps(item), Kind.HELD) for item in spellings.refused]
    if spellings.malformed:
        bad = [dice.choice(spellings.malformed) for _ in range(malformed)]
        lot += [Wanted(item, None, Kind.MALFORMED) for item in bad]
    dice.shuffle(lot)
    return lot
