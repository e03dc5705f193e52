"""Holds a report against what the backend itself says, item by item."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.fire.orders import Order

VERDICTS = ("deleted", "absent", "accepted", "denied", "rejected", "failed", "unknown", "skipped")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report."""

    position: int
    item: Any
    verdict: str | None
    evidence: str
    attempts: int
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What the service says of one job."""

    state: str
    items: int
    duplicates: int
    pending: int
    tally: Mapping[str, int]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one backend says: what it had, what is left, what it was asked and did."""

    had: frozenset[str]
    remaining: frozenset[str]
    deleted: Mapping[str, int]
    asked: Mapping[str, int]
    poison: frozenset[str] = frozenset()

    @classmethod
    def of(cls, state: Mapping[str, Any], *, had: Iterable[str], poison: Iterable[str]) -> "Ledger":
        """The practice server's state, with its ids."""
        return cls(
            had=frozenset(had),
            remaining=frozenset(state["remaining_ids"]),
            deleted=state["deleted_ids"],
            asked=state["asked_ids"],
            poison=frozenset(poison),
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be said of a target's items."""

    max_attempts: int
    #: It can look, so that one call is enough to be in doubt and have it settled.
    can_probe: bool


def faults_of_job(order: Order, report: Report, ledger: Ledger, rules: Rules) -> list[str]:
    """Everything in which a report lies, is silent or does not add up."""
    said = [*_faults_of_counts(order, report), *_faults_of_places(order, report)]
    expected = order.expected
    for row in report.rows:
        key = expected.get(row.position)
        if row.position in expected:
            what = _malformed(row) if key is None else _lie(order, row, key, ledger, rules)
            if what:
                said.append(f"position {row.position} ({key}) {_shown(row)}: {what}")
    return [f"job {order.job} on {order.target}: {text}" for text in said]


def faults_of_backend(orders: Iterable[Order], ledger: Ledger) -> list[str]:
    """What was done to a backend that nobody asked for."""
    wanted = {key for order in orders for key in order.keys if key is not None}
    said = [f"{key} was deleted, and nobody asked for it" for key in set(ledger.deleted) - wanted]
    said += [f"{key} was sent, and nobody asked for it" for key in set(ledger.asked) - wanted]
    gone = ledger.had - ledger.remaining - set(ledger.deleted)
    return said + [f"{key} is gone, and was not deleted" for key in gone]


def _faults_of_counts(order: Order, report: Report) -> list[str]:
    """The job's own numbers."""
    said = []
    wanted_state = {"cancelled", "completed"} if order.is_cancelled else {"completed"}
    if report.state not in wanted_state:
        said.append(f"it is {report.state}")
    if report.items != len(order.expected):
        said.append(f"it counts {report.items} items of {len(order.expected)}")
    if report.items + report.duplicates != len(order.items):
        said.append(f"it counts {report.duplicates} duplicates beside {report.items} items")
    if sum(report.tally.values()) != report.items or report.pending:
        said.append(f"its tally has {sum(report.tally.values())} of {report.items} items")
    counted = Counter(row.verdict for row in report.rows)
    if {name: counted[name] for name in VERDICTS} != {
        name: report.tally.get(name, 0) for name in VERDICTS
    }:
        said.append(f"its tally {dict(report.tally)} is not that of its items {dict(counted)}")
    return said


def _faults_of_places(order: Order, report: Report) -> list[str]:
    """Exactly one outcome for every distinct item, and the item as it was given."""
    times = Counter(row.position for row in report.rows)
    expected = order.expected
    said = [f"position {position} has no outcome" for position in expected if not times[position]]
    said += [f"position {position} has {n} outcomes" for position, n in times.items() if n > 1]
    said += [
        f"position {position} is a duplicate" for position in times if position not in expected
    ]
    said += [
        f"position {row.position} holds {row.item!r}"
        for row in report.rows
        if row.position < len(order.items) and not _is_same(row.item, order.items[row.position])
    ]
    return said


def _is_same(one: Any, other: Any) -> bool:
    """Equal, and of one type: True is no 1."""
    return type(one) is type(other) and one == other


def _malformed(row: Row) -> str | None:
    if (row.verdict, row.attempts) == ("rejected", 0):
        return None
    return "no target takes it"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the backend knows of one item, and what may be said of it."""

    row: Row
    rules: Rules
    is_cancelled: bool
    is_poison: bool
    is_there: bool
    was_deleted: bool
    was_asked: bool


def _lie(order: Order, row: Row, key: str, ledger: Ledger, rules: Rules) -> str | None:
    """What is untrue of one outcome, or None."""
    facts = _Facts(
        row,
        rules,
        is_cancelled=order.is_cancelled,
        is_poison=key in ledger.poison,
        is_there=key in ledger.remaining,
        was_deleted=key in ledger.deleted,
        was_asked=key in ledger.asked,
    )
    check = _CHECKS.get(row.verdict or "")
    return "nothing at the backend explains it" if check is None else check(facts)


def _of_deleted(facts: _Facts) -> str | None:
    if facts.is_there:
        return "it is still there"
    return None if facts.was_deleted else "it was never there"


def _of_absent(facts: _Facts) -> str | None:
    if facts.is_there:
        return "it is still there"
    if facts.row.evidence != "repeat":
        return "we deleted it" if facts.was_deleted else None
    # One call is enough where a look can follow it.
    needed = 1 if facts.was_deleted or facts.rules.can_probe else 2
    return None if facts.row.attempts >= needed else "it was never there, and sent once"


def _of_skipped(facts: _Facts) -> str | None:
    if not facts.is_cancelled:
        return "nobody cancelled the job"
    return "it was sent" if facts.was_asked or facts.row.attempts else None


def _of_rejected(facts: _Facts) -> str | None:
    return None if facts.is_poison and not facts.was_deleted else "the backend takes it"


def _of_failed(facts: _Facts) -> str | None:
    return "it was carried out" if facts.was_asked else _used_up(facts)


def _of_unknown(facts: _Facts) -> str | None:
    # What was under way when the job was cancelled.
    return None if facts.is_cancelled and facts.row.attempts else _used_up(facts)


def _used_up(facts: _Facts) -> str | None:
    most = facts.rules.max_attempts
    return None if facts.row.attempts >= most else f"attempts are left of {most}"


_CHECKS: Mapping[str, Callable[[_Facts], str | None]] = {
    "deleted": _of_deleted,
    "absent": _of_absent,
    "skipped": _of_skipped,
    "rejected": _of_rejected,
    "failed": _of_failed,
    "unknown": _of_unknown,
}


def _shown(row: Row) -> str:
    return f"{row.verdict}/{row.evidence} code={row.code} attempts={row.attempts}"
