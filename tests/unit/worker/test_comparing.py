"""Every way in which a report can part from a ledger is told."""

from datetime import UTC, datetime

import pytest

from api_adapters.base import Evidence, Verdict
from worker.cli.comparing import Ledger, compare
from worker.cli.lot import Kind, Wanted
from worker.item import Mark, Outcome, to_json

NOW = datetime(2030, 1, 1, tzinfo=UTC)

#: `A` and `a` are one thing, `held` and `left` stay, `gone` never was there.
LOT = [
    Wanted("a", "a", Kind.THERE),
    Wanted("A", "a", Kind.THERE),
    Wanted("held", "held", Kind.HELD),
    Wanted("gone", "gone", Kind.MISSING),
    Wanted(None, None, Kind.MALFORMED),
    Wanted(None, None, Kind.MALFORMED),
]
REMAINING = frozenset({"held", "left"})


def outcome(
    position: int, verdict: Verdict, evidence: Evidence = Evidence.ITEM, *, item: object = ...
) -> Outcome:
    given = LOT[position].item if item is ... else item
    return Outcome(position, to_json(given), Mark(verdict, evidence), NOW)


def honest() -> dict[int, Outcome]:
    return {
        0: outcome(0, Verdict.DELETED),
        2: outcome(2, Verdict.DENIED),
        3: outcome(3, Verdict.ABSENT),
        4: outcome(4, Verdict.REJECTED),
        5: outcome(5, Verdict.REJECTED),
    }


def faults_of(
    changes: dict[int, Outcome | None],
    *,
    remaining: frozenset[str] = REMAINING,
    deleted: frozenset[str] = frozenset({"a"}),
    sent: frozenset[str] = frozenset({"a", "gone"}),
) -> list[str]:
    outcomes = [one for one in (honest() | changes).values() if one is not None]
    ledger = Ledger(remaining=remaining, deleted=deleted, sent=sent)
    return compare(LOT, outcomes, ledger)[1]


def test_an_honest_report_has_no_faults_and_is_counted() -> None:
    ledger = Ledger(REMAINING, frozenset({"a"}), frozenset({"a", "gone"}))

    assert compare(LOT, honest().values(), ledger) == (5, [])


@pytest.mark.parametrize("verdict", [Verdict.DELETED, Verdict.ABSENT, Verdict.ACCEPTED])
def test_what_is_called_gone_must_not_be_there(verdict: Verdict) -> None:
    faults = faults_of({0: outcome(0, verdict)}, remaining=REMAINING | {"a"}, deleted=frozenset())

    assert f"'a' is called {verdict} and is still there" in faults


def test_a_deletion_must_stand_in_the_ledger() -> None:
    faults = faults_of({3: outcome(3, Verdict.DELETED)})

    assert "'gone' is called deleted and was not deleted" in faults


@pytest.mark.parametrize("verdict", [Verdict.DENIED, Verdict.FAILED, Verdict.SKIPPED])
def test_what_is_called_not_done_must_not_be_done(verdict: Verdict) -> None:
    assert f"'a' is called {verdict} and was deleted" in faults_of({0: outcome(0, verdict)})


def test_what_we_may_have_deleted_is_absent_by_repeat_alone() -> None:
    assert not faults_of({0: outcome(0, Verdict.ABSENT, Evidence.REPEAT)})
    assert faults_of({0: outcome(0, Verdict.ABSENT, Evidence.ITEM)})


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.FAILED, Verdict.SKIPPED])
def test_what_is_there_must_not_be_given_up(verdict: Verdict) -> None:
    faults = faults_of({0: outcome(0, verdict)}, remaining=REMAINING | {"a"}, deleted=frozenset())

    assert len(faults) == 1
    assert f"is called {verdict}" in faults[0]


def test_a_malformed_item_must_be_rejected() -> None:
    assert faults_of({4: outcome(4, Verdict.ABSENT)})


def test_a_thing_without_an_outcome_is_told() -> None:
    assert faults_of({0: None}) == ["'a' has 0 outcomes"]
    assert faults_of({4: None}) == ["4 has 0 outcomes"]


def test_a_thing_with_two_outcomes_is_told() -> None:
    assert faults_of({1: outcome(1, Verdict.DELETED)}) == ["'a' has 2 outcomes"]


def test_an_item_must_be_told_as_it_was_given() -> None:
    faults = faults_of({0: outcome(0, Verdict.DELETED, item="b")})

    assert faults == ["place 0 holds 'b' and not 'a'"]


def test_what_nobody_asked_for_must_be_neither_deleted_nor_sent() -> None:
    deleted = faults_of({}, deleted=frozenset({"a", "left"}), remaining=frozenset({"held"}))
    sent = faults_of({}, sent=frozenset({"a", "gone", "left"}))

    assert deleted == ["left was deleted and nobody asked for it"]
    assert sent == ["left was sent and nobody asked for it"]
