"""What a practice server can be told to do wrong, and when.

A plan is written as `KIND[:VALUE][WHEN]`, joined by commas, WHEN being `/7`
(every seventh call), `=0.01` (that share of the calls, by seeded chance), `@3`
(the third call alone) or left out (always):

    lost/50,busy:2=0.01,expired@500
"""

import random
import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One way in which a call for deletion goes wrong."""

    LOST = "lost"  #: the work is done, the connection ends without an answer
    CUT = "cut"  #: the work is done, the connection ends amid the answer
    TRUNCATED = "truncated"  #: the work is done, the answer is half a document
    EMPTY = "empty"  #: the work is done, the answer is 200 with nothing in it
    HTML = "html"  #: the work is done, a gateway answers 502 with a page
    HUGE = "huge"  #: the work is done, the answer never seems to end
    SLOW = "slow"  #: the work is done, the answer takes VALUE seconds
    DRIPPING = "dripping"  #: the work is done, each byte takes VALUE seconds
    OMITTED = "omitted"  #: the work is done, the answer leaves one item out
    STRANGER = "stranger"  #: one item's place in the answer is taken by a stranger
    SHUFFLED = "shuffled"  #: the answer names the items in other order and case
    CONTRADICTED = "contradicted"  #: flags of one item exclude each other
    MISCOUNTED = "miscounted"  #: the work is done, the answer counts one item too many
    UNNUMBERED = "unnumbered"  #: the work is done, status numbers are 0 or left out
    AS_TEXT = "as_text"  #: the work is done, numbers in the answer are text
    DROPPED = "dropped"  #: nothing is done, the connection ends
    ERROR = "error"  #: nothing is done, 500
    BUSY = "busy"  #: nothing is done, 429; with VALUE, Retry-After in seconds
    BUSY_DATE = "busy_date"  #: nothing is done, 429; Retry-After is a date in VALUE seconds
    BUSY_CODE = "busy_code"  #: nothing is done, the vendor's own code for too many requests
    REDIRECTED = "redirected"  #: nothing is done, 302 to elsewhere
    EXPIRED = "expired"  #: every token ends before the call


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault, its value, and when it happens; no field set means always."""

    fault: Fault
    value: float | None = None
    every: int | None = None
    chance: float | None = None
    at: int | None = None

    def holds(self, call: int, dice: random.Random) -> bool:
        """Whether it happens at the call of that number, from 1."""
        if self.every is not None:
            return call % self.every == 0
        if self.chance is not None:
            return dice.random() < self.chance
        return self.at is None or call == self.at


class Plan:
    """Draws at most one fault a call and counts what it drew."""

    def __init__(self, text: str = "", *, seed: int = 0) -> None:
        self._rules = [_read_rule(part) for part in text.split(",") if part.strip()]
        self._dice = random.Random(seed)  # noqa: S311 - chance that can be repeated
        self._calls = 0
        self.drawn: Counter[Fault] = Counter()

    def draw(self) -> Rule | None:
        """The fault of the next call; of several the one written first."""
        if not self._rules:
            return None
        self._calls += 1
        held = [rule for rule in self._rules if rule.holds(self._calls, self._dice)]
        if not held:
            return None
        self.drawn[held[0].fault] += 1
        return held[0]


_RULE = re.compile(r"([a-z_]+)(?::([0-9.]+))?(?:/([0-9]+)|=([0-9.]+)|@([0-9]+))?")


def _read_rule(text: str) -> Rule:
    """Read one rule.

    >>> _read_rule("busy:2/50")
    Rule(fault=<Fault.BUSY: 'busy'>, value=2.0, every=50, chance=None, at=None)
    """
    match = _RULE.fullmatch(text.strip())
    if match is None or match[1] not in set(Fault):
        raise ValueError(f"{text!r}: expected KIND[:VALUE][/N|=SHARE|@N], KIND of {_KINDS}")
    kind, value, every, chance, at = match.groups()
    if every == "0":
        raise ValueError(f"{text!r}: expected a number from 1")
    return Rule(
        Fault(kind),
        value=float(value) if value else None,
        every=int(every) if every else None,
        chance=float(chance) if chance else None,
        at=int(at) if at else None,
    )


_KINDS = ", ".join(Fault)
