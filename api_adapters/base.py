"""What an adapter is: the protocol, its limits, and the words of an answer."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

from api_adapters.errors import BadQuery, CallFailed
from api_adapters.settings import TargetSettings

#: One thing to delete, as the caller gave it.
Item = str | int | dict[str, Any]


class Integers(list[Any]):
    """Items that are all integers, with their digits, by which most backends know them.

    Whoever asks an adapter for the keys of many has written them already.
    """

    def __init__(self, items: Iterable[int], digits: list[str]) -> None:
        super().__init__(items)
        self.digits = digits


Page = TypeVar("Page")


class Verdict(StrEnum):
    """What became of an item."""

    DELETED = "deleted"  #: the backend said so, or it was seen before and not after
    ABSENT = "absent"  #: it was not there
    ACCEPTED = "accepted"  #: the backend took the batch without naming items
    DENIED = "denied"  #: permission, protection, conflict, no longer matching
    REJECTED = "rejected"  #: not valid for this backend
    FAILED = "failed"  #: the backend did not do it
    UNKNOWN = "unknown"  #: it was sent, may have run, and could not be established
    SKIPPED = "skipped"  #: never sent


#: The item is not there any more.
GONE = frozenset({Verdict.DELETED, Verdict.ABSENT})


class Evidence(StrEnum):
    """How we know a verdict."""

    ITEM = "item"  #: the answer named the item
    BATCH = "batch"  #: the answer accounts for all that was sent
    PROBE = "probe"  #: we looked
    REPEAT = "repeat"  #: a second call said so; the first one may have done it
    NONE = "none"  #: nothing was said


class Presence(StrEnum):
    """What a probe saw of an item; an item it cannot tell of is left out."""

    THERE = "there"  #: the backend showed it
    GONE = "gone"  #: the backend said that there is no such item


@dataclass(frozen=True, slots=True)
class Finding:
    """What an answer says of one item.

    `UNKNOWN` means that the answer leaves it open: the worker looks, or sends
    the item again, unless `may_repeat` is false. `SKIPPED` is never found.
    `message` is at most a sentence of the backend, without the item's text.
    """

    verdict: Verdict
    evidence: Evidence = Evidence.ITEM
    code: str | None = None
    message: str | None = None
    may_repeat: bool = True


class Breach(StrEnum):
    """A way in which an answer departs from what the vendor documents."""

    STRANGER = "stranger"  #: an item in the answer that was never asked for
    CONTRADICTION = "contradiction"  #: flags of one item that exclude each other
    UNHEARD = "unheard"  #: a word that the vendor's page does not list
    MISCOUNT = "miscount"  #: a count that does not fit what was sent


@dataclass(frozen=True, slots=True)
class Warned:
    """A breach that was seen, with a sentence that holds no item's text."""

    breach: Breach
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one call, by key.

    Every key that was sent is in at most one of `findings` and `unsent`. Of a
    key in neither the answer is silent: it may have been deleted. Where a call
    took several requests and one of them failed, `error` is what failed and
    holds for the silent keys.
    """

    findings: Mapping[str, Finding] = field(default_factory=dict)
    unsent: frozenset[str] = frozenset()
    error: CallFailed | None = None
    warnings: tuple[Warned, ...] = ()
    #: Keys without a finding that a look after the call still showed; the worker's.
    seen: frozenset[str] = frozenset()
    #: What was found of every key that was sent, where that was looked for; the worker's.
    common: Finding | None = None

    def common_finding(self, keys: Iterable[str]) -> Finding | None:
        """What was found of every key, where it is the same of each; told without a step each."""
        found = list(map(self.findings.get, keys))
        return found[0] if found and found.count(found[0]) == len(found) else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a backend takes, unless the target says otherwise."""

    max_items_per_call: int
    max_in_flight: int = 4
    requests_per_second: float | None = None
    timeout: timedelta = timedelta(seconds=30)
    max_items_per_probe: int = 100


@dataclass(frozen=True, slots=True)
class Checked:
    """What a harmless check showed, and what it cannot show."""

    shown: str
    not_shown: str


class Deadline:
    """The moment at which a call is broken off, however far it got."""

    __slots__ = ("_at",)

    def __init__(self, length: timedelta) -> None:
        self._at = time.monotonic() + length.total_seconds()

    @property
    def seconds_left(self) -> float:
        """Seconds until the moment; negative once it has passed."""
        return self._at - time.monotonic()

    def page(self, read: Callable[[], Page]) -> Page:
        """Read one page of a find, which may be read again and changes nothing.

        Whoever has the patience gives every page a time of its own, and reads
        it again after a passing fault; here it is read once.

        Raises:
            Transient, Refused, Hopeless: the page could not be read.
        """
        return read()


class Pace(Protocol):
    """The target's shared pace: every request of every worker passes it."""

    def enter(self, until: Deadline) -> None:
        """Wait until one request may be sent.

        Raises:
            Paced: the wait is longer than a worker should be held.
        """
        ...


class Adapter(ABC):
    """Speaks to one backend of one kind; several threads share one.

    A subclass is registered under the entry-point group
    `deletion_worker.adapters` and built as `cls(settings, pace=...)`. It builds
    requests and reads answers; retry, pace and bookkeeping are the worker's.
    """

    #: The pydantic model of the target's part of the configuration.
    Settings: ClassVar[type[TargetSettings]]
    limits: ClassVar[Limits]
    #: Whether `probe` can tell if an item is still there.
    can_probe: ClassVar[bool] = False
    #: The settings that decide *what* is deleted: no credentials, no pace.
    identity: ClassVar[tuple[str, ...]] = ()
    #: Whether `delete_found` repeats the condition beside the keys, so that what
    #: no longer matches is kept, however long ago it was found.
    repeats_query: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, settings: Any, *, pace: Pace) -> None:
        """Keep the settings; open nothing, read no secret."""

    @abstractmethod
    def key(self, item: Item) -> str:
        """The canonical form of an item: equal keys are one thing to delete.

        Pure and local. Raises:
            BadItem: the item is not valid for this backend.
        """

    def keys(self, items: Sequence[Item]) -> list[str]:
        """What `key` says of each of many items, in their order.

        Worth overriding only where all of them can be told at once in less time,
        as of `Integers`.

        Raises:
            BadItem: one of them is not valid; `key` then tells which.
        """
        return list(map(self.key, items))

    def is_key_known(self, item: Item) -> bool:
        """Whether `key` says which thing is deleted, before anybody asks the backend.

        Pure and local; only asked of items that have a key. An item for which
        it is false, such as a filter, may mean a thing that must stay: it is
        never sent while some of its target are protected.
        """
        return True

    @abstractmethod
    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        """Delete items, given by key; never called with none.

        Raises:
            Transient, Refused, Hopeless: the call as a whole failed.
        """

    def probe(self, items: Mapping[str, Item], *, until: Deadline) -> Mapping[str, Presence]:
        """Look whether items are still there; at most `max_items_per_probe`.

        Raises:
            Transient, Refused, Hopeless: the look as a whole failed.
        """
        raise NotImplementedError

    def check_query(self, query: Mapping[str, Any]) -> None:
        """Refuse a query that cannot be asked or that narrows nothing.

        Raises:
            BadQuery: with what was expected.
        """
        raise BadQuery("this backend cannot be asked for items: give the items themselves")

    def find(self, query: Mapping[str, Any], *, until: Deadline) -> Iterator[Item]:
        """List the items that match a query, page by page, each read by `until.page`.

        Raises:
            BadQuery: the query is not valid.
            Transient, Refused, Hopeless: a page could not be read.
        """
        raise NotImplementedError

    def freeze(self, query: Mapping[str, Any], *, until: Deadline) -> Mapping[str, Any]:
        """The query as it holds for the whole job, ages reckoned to moments once.

        Raises:
            BadQuery: the query is not valid.
            Transient, Refused, Hopeless: the backend's clock could not be asked.
        """
        return query

    def delete_found(
        self, items: Mapping[str, Item], query: Mapping[str, Any], *, until: Deadline
    ) -> Reply:
        """Delete items that a frozen query found; only called where `repeats_query`.

        Raises:
            Transient, Refused, Hopeless: the call as a whole failed.
        """
        return self.delete(items, until=until)

    @abstractmethod
    def check(self, *, until: Deadline) -> Checked:
        """Show without harm that address and credentials are right.

        Raises:
            Transient, Refused, Hopeless: they are not, or nobody answered.
        """

    def close(self) -> None:
        """Give back connections; the adapter is not used afterwards."""
