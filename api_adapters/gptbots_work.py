"""How far a call to GPTBots has come, and what is remembered of earlier ones."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from api_adapters.base import Finding, Reply, Verdict, Warned
from api_adapters.errors import CallFailed, Hopeless, Paced, Transient
from api_adapters.gptbots_items import Filter

#: Of how many filters at most it is remembered which record they meant.
MOST_DOUBTS = 10_000


@dataclass(slots=True)
class Work:
    """A call that takes several requests, and what is known of it so far."""

    unsent: dict[str, str | Filter]
    #: A filter is not begun to be looked up or sent with less time than this.
    spare: float
    findings: dict[str, Finding] = field(default_factory=dict)
    #: Record ids by key, once the filters are looked up.
    ids: dict[str, str] = field(default_factory=dict)
    looked_up: dict[str, Filter] = field(default_factory=dict)
    as_given: dict[str, Filter] = field(default_factory=dict)
    warnings: tuple[Warned, ...] = ()
    error: CallFailed | None = None
    has_looked: bool = False
    #: The key at which the error came before anything of it was sent.
    stuck: str | None = None

    def settle(self, key: str, finding: Finding) -> None:
        """Keep what became of a key; it is not sent any more."""
        self.unsent.pop(key, None)
        self.findings[key] = finding

    def stop(self, error: CallFailed, key: str | None = None) -> None:
        """Keep what failed, and the key whose turn it was if nothing of it was sent."""
        self.error, self.stuck = error, key

    @property
    def must_rest(self) -> bool:
        """Whether what failed holds for every further request as well."""
        match self.error:
            case Paced():
                return False
            case Hopeless() | Transient(wait=timedelta()):
                return True
        return False

    @property
    def in_doubt(self) -> dict[str, str]:
        """Record ids of filters, by key, that were sent and may be deleted."""
        is_silence_doubt = self.error is None or self.error.may_have_run
        doubted = {}
        for key in self.looked_up.keys() - self.unsent.keys():
            found = self.findings.get(key)
            if _is_open(found) and (is_silence_doubt or found is not None):
                doubted[key] = self.ids[key]
        return doubted

    def end(self) -> Reply:
        """All that is known.

        Raises:
            Transient, Refused, Hopeless: that is nothing but an error.
        """
        unsent = frozenset(self.unsent) - {self.stuck}
        if self.error is not None and not (self.findings or unsent):
            raise self.error
        return Reply(self.findings, unsent, self.error, self.warnings)


class Doubts:
    """Which record a filter meant when it was sent and nobody knows what became of it.

    Another record may have taken its value since, which is not to be deleted in
    its place. Threads share it; it is known to this process alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._id_by_key: dict[str, str] = {}

    def of(self, key: str) -> str | None:
        """The record id that was sent for this filter, while its fate is open."""
        return self._id_by_key.get(key)

    def heed(self, work: Work) -> None:
        """Remember what a call left in doubt, and forget what it settled."""
        self.forget(key for key, found in work.findings.items() if not _is_open(found))
        self.keep(work.in_doubt)

    def keep(self, id_by_key: Mapping[str, str]) -> None:
        """Remember these; of too many the oldest are forgotten."""
        with self._lock:
            self._id_by_key |= id_by_key
            for key in list(self._id_by_key)[: len(self._id_by_key) - MOST_DOUBTS]:
                del self._id_by_key[key]

    def forget(self, keys: Iterable[str]) -> None:
        """Let the next look decide which record these mean."""
        with self._lock:
            for key in keys:
                self._id_by_key.pop(key, None)


def _is_open(found: Finding | None) -> bool:
    return found is None or (found.verdict is Verdict.UNKNOWN and found.may_repeat)
