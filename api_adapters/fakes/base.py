"""What all practice backends share: their items, their faults, their ledger.

A practice backend is a stateful model of one vendor that behaves as the vendor
documents, and can be told to misbehave. It knows what was really deleted, so a
report can be held against it.
"""

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import Any, ClassVar

from api_adapters.fakes.faults import Fault, Plan, Rule

#: Redirects lead there; whoever follows one is counted.
TRAP = "/_practice/trap"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Manner(StrEnum):
    """How an answer goes over the wire."""

    WHOLE = "whole"  #: as it should
    LOST = "lost"  #: the connection ends instead
    CUT = "cut"  #: the connection ends amid the body
    DRIPPING = "dripping"  #: byte by byte, `delay` apart


@dataclass(frozen=True, slots=True)
class Said:
    """An answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = Manner.WHOLE
    delay: timedelta = timedelta(0)


class Practice(ABC):
    """One vendor's backend; lives on its server's thread alone."""

    #: What a target's `base_url` adds to the server's address.
    base_path: ClassVar[str] = ""
    #: Faults that cannot show in this vendor's answers.
    impossible: ClassVar[frozenset[Fault]] = frozenset()

    def __init__(self, items: Iterable[str] = (), *, seed: int = 0, misbehave: str = "") -> None:
        self.seed = seed
        self.plan = Plan(misbehave, seed=seed)
        self.latency = timedelta(0)
        self.remaining = set(items)
        #: One of these makes the backend refuse the whole call.
        self.poison: set[str] = set()
        #: How often each item was asked to be deleted, and was.
        self.asked: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()
        #: Requests of every kind, and those among them that ask for a deletion.
        self.requests = 0
        self.calls = 0
        self.logins = 0
        self.trapped = 0

    @classmethod
    def ids(cls, count: int, *, seed: int = 0) -> list[str]:
        """Ids in the vendor's form, always the same for a seed."""
        return practice_ids(count, seed=seed)

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What a target needs besides `base_url`, secrets in plain text."""

    @abstractmethod
    def is_deletion(self, asked: Asked) -> bool:
        """Whether faults apply and the call is counted."""

    @abstractmethod
    def delete(self, asked: Asked, fault: Fault | None) -> Said:
        """Do the work and answer, with the faults that alter the answer's rows."""

    @abstractmethod
    def attend(self, asked: Asked) -> Said:
        """Answer everything else: logins, probes, wrong addresses."""

    @abstractmethod
    def expire(self) -> None:
        """End every token."""

    def answer(self, asked: Asked) -> Said:
        """Answer one request, right or as the plan has it."""
        self.requests += 1
        if asked.path.startswith(TRAP):
            self.trapped += 1
            return Said(200)
        if not self.is_deletion(asked):
            return self.attend(asked)
        self.calls += 1
        rule = self.plan.draw()
        if rule is None:
            return self._in_time(self.delete(asked, None))
        if rule.fault is Fault.EXPIRED:
            self.expire()
        refusal = _instead(rule)
        said = refusal or _spoil(self.delete(asked, rule.fault), rule)
        return self._in_time(said)

    def take(self, keys: Collection[str]) -> set[str]:
        """Delete items; the keys of those that were there."""
        there = self.remaining.intersection(keys)
        self.remaining -= there
        self.asked.update(keys)
        self.deleted.update(there)
        return there

    def told(self, orders: Mapping[str, Any]) -> None:
        """Obey the control endpoint: what the body of POST /_practice/state holds."""
        self.remaining |= set(orders.get("add", ()))
        self.poison |= set(orders.get("poison", ()))
        if "misbehave" in orders:
            self.plan = Plan(orders["misbehave"], seed=self.seed)
        if "latency" in orders:
            self.latency = timedelta(seconds=orders["latency"])
        if orders.get("expire"):
            self.expire()

    def state(self, *, with_ids: bool = False) -> dict[str, Any]:
        """The ledger, as GET /_practice/state answers it."""
        counts: dict[str, Any] = {
            "remaining": len(self.remaining),
            "deleted": len(self.deleted),
            "deletions": self.deleted.total(),
            "asked": len(self.asked),
            "asked_again": sum(times > 1 for times in self.asked.values()),
            "requests": self.requests,
            "calls": self.calls,
            "logins": self.logins,
            "trapped": self.trapped,
            "faults": dict(self.plan.drawn),
        }
        if with_ids:
            counts["remaining_ids"] = sorted(self.remaining)
            counts["deleted_ids"] = dict(self.deleted)
            counts["asked_ids"] = dict(self.asked)
        return counts

    def _in_time(self, said: Said) -> Said:
        return replace(said, delay=said.delay + self.latency) if self.latency else said


def practice_ids(count: int, *, seed: int = 0) -> list[str]:
    """UUIDs, always the same for a seed; a longer list begins with a shorter one.

    >>> practice_ids(1)
    ['e3e70682-c209-4cac-a29f-6fbed82c07cd']
    """
    dice = random.Random(seed)  # noqa: S311 - ids that can be made again elsewhere
    return [_uuid(dice.getrandbits(128)) for _ in range(count)]


def _uuid(bits: int) -> str:
    # Formatted by hand: a million of them must not keep a demo waiting.
    digits = f"{bits:032x}"
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _instead(rule: Rule) -> Said | None:
    """The answer of a fault that does no work at all."""
    wait = rule.value or 0
    match rule.fault:
        case Fault.DROPPED:
            return Said(200, manner=Manner.LOST)
        case Fault.ERROR:
            return Said(500, b"Internal Server Error")
        case Fault.BUSY if rule.value is not None:
            return Said(429, headers={"Retry-After": f"{wait:.0f}"})
        case Fault.BUSY:
            return Said(429)
        case Fault.BUSY_DATE:
            moment = datetime.now(UTC) + timedelta(seconds=wait)
            return Said(429, headers={"Retry-After": format_datetime(moment, usegmt=True)})
        case Fault.REDIRECTED:
            return Said(302, headers={"Location": TRAP})
    return None


def _spoil(said: Said, rule: Rule) -> Said:
    """The answer to work that was done, as the fault lets it out."""
    match rule.fault:
        case Fault.LOST | Fault.CUT:
            return replace(said, manner=Manner(rule.fault))
        case Fault.TRUNCATED:
            return replace(said, body=said.body[: len(said.body) // 2])
        case Fault.EMPTY:
            return Said(200)
        case Fault.HTML:
            page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
            return Said(502, page, {"Content-Type": "text/html"})
        case Fault.HUGE:
            return replace(said, body=said.body + b" " * (17 * 2**20))
        case Fault.SLOW:
            return replace(said, delay=timedelta(seconds=rule.value or 1))
        case Fault.DRIPPING:
            pause = timedelta(seconds=rule.value or 0.05)
            return replace(said, manner=Manner.DRIPPING, delay=pause)
    return said
