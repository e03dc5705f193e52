"""Holds a report against a backend's own ledger, item by item."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from api_adapters.base import GONE, Evidence, Verdict
from worker.cli.lot import Kind, Wanted
from worker.item import Outcome

#: What may become of each kind; the ledger narrows it further. A practice server's
#: faults all pass, so what exists is neither failed nor unknown in the end.
FITTING = {
    Kind.THERE: GONE | {Verdict.ACCEPTED, Verdict.DENIED},
    Kind.HELD: {Verdict.REJECTED, Verdict.DENIED},
    # failed: an error without its number says of a missing thing that it did not go.
    Kind.MISSING: {Verdict.ABSENT, Verdict.ACCEPTED, Verdict.FAILED},
    Kind.MALFORMED: {Verdict.REJECTED},
}

#: These say that the backend did not do it.
_NOT_DONE = {Verdict.DENIED, Verdict.REJECTED, Verdict.FAILED, Verdict.SKIPPED}


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the backend itself says, by ident."""

    remaining: frozenset[str]
    deleted: frozenset[str]
    #: What any call has named, whether it was there or not.
    sent: frozenset[str]


def compare(
    lot: Sequence[Wanted], outcomes: Iterable[Outcome], ledger: Ledger
) -> tuple[int, list[str]]:
    """How many outcomes there are, and where report and ledger part."""
    faults: list[str] = []
    times: Counter[str | int] = Counter()
    for outcome in outcomes:
        wanted = lot[outcome.position]
        times[_thing(outcome.position, wanted)] += 1
        faults += _faults_of(wanted, outcome, ledger)
    faults += _miscounted(lot, times)
    asked = {wanted.ident for wanted in lot}
    faults += [f"{one} was deleted and nobody asked for it" for one in ledger.deleted - asked]
    faults += [f"{one} was sent and nobody asked for it" for one in ledger.sent - asked]
    return times.total(), faults


def _faults_of(wanted: Wanted, outcome: Outcome, ledger: Ledger) -> Iterator[str]:
    """What the ledger has to say against one outcome."""
    verdict, evidence = outcome.mark.verdict, outcome.mark.evidence
    said = f"{wanted.item!r} is called {verdict}"
    if outcome.item != wanted.item:
        yield f"place {outcome.position} holds {outcome.item!r} and not {wanted.item!r}"
    if verdict not in FITTING[wanted.kind]:
        yield f"{said} ({outcome.mark.code}: {outcome.mark.message}) and is {wanted.kind}"
    if wanted.ident in ledger.remaining and (verdict in GONE or verdict is Verdict.ACCEPTED):
        yield f"{said} and is still there"
    if wanted.ident not in ledger.deleted:
        if verdict is Verdict.DELETED:
            yield f"{said} and was not deleted"
        return
    if verdict in _NOT_DONE:
        yield f"{said} and was deleted"
    if verdict is Verdict.ABSENT and evidence is Evidence.ITEM:
        yield f"{said} by the answer, which came after we had deleted it"


def _miscounted(lot: Sequence[Wanted], times: Counter[str | int]) -> Iterator[str]:
    """Things that have no outcome, or several."""
    for thing in {_thing(position, wanted) for position, wanted in enumerate(lot)}:
        if times[thing] != 1:
            yield f"{thing!r} has {times[thing]} outcomes"


def _thing(position: int, wanted: Wanted) -> str | int:
    """What has one outcome: a thing, however often it is named, or a malformed place."""
    return position if wanted.ident is None else wanted.ident
