"""What is kept: protected keys, globs, and what is not known to be harmless."""

from typing import Any

import pytest

from api_adapters.base import Evidence, Item, Verdict
from tests.factories import make_claimed
from worker.guarding import (
    BY_GLOB,
    BY_KEY,
    NO_GUARD,
    UNKNOWN_KEY,
    Guard,
    glob_of,
    kept_mark,
    kept_of,
)
from worker.item import Mark

KEYS = {0: "k0", 1: "k1", 2: "k2", 3: "k3"}


def knows(item: Item) -> bool:
    return item != "k2"


def kept(guard: Guard, *, protected: frozenset[int] = frozenset(), has_keys: bool = False) -> Any:
    return kept_of(make_claimed(4), KEYS, guard=guard, protected=protected, has_keys=has_keys)


@pytest.mark.parametrize(
    ("glob", "key", "is_kept"),
    [
        ("admin-*", "admin-7", True),
        ("admin-*", "Admin-7", False),
        ("admin-*", "an admin-7", False),
        ("*", "line\nline", True),
        ("user[0-9]", "user7", True),
        ("user[0-9]", "user77", False),
        ("a?c", "abc", True),
        ("a.c", "abc", False),
    ],
)
def test_a_glob_is_about_the_whole_key_and_its_case(glob: str, key: str, is_kept: bool) -> None:  # noqa: FBT001
    assert (glob_of((glob,), key) is not None) is is_kept
    assert (Guard((glob,), knows).why_kept("x", key) is not None) is is_kept


def test_any_of_the_globs_keeps() -> None:
    guard = Guard(("a*", "k3"), knows)

    assert kept(guard) == {3: BY_GLOB, 2: UNKNOWN_KEY}


def test_what_the_store_says_is_kept() -> None:
    assert kept(NO_GUARD, protected=frozenset({1}), has_keys=True) == {1: BY_KEY}


def test_an_item_whose_key_nobody_knows_is_kept_only_where_something_is_protected() -> None:
    guard = Guard((), knows)

    assert kept(guard) == {}
    assert kept(guard, has_keys=True) == {2: UNKNOWN_KEY}


def test_an_adapter_that_breaks_over_an_item_knows_nothing_of_it() -> None:
    def breaks(item: Item) -> bool:
        raise KeyError(item)

    assert set(kept(Guard((), breaks), has_keys=True).values()) == {UNKNOWN_KEY}


def test_an_item_without_a_key_is_left_to_the_judge() -> None:
    claimed = make_claimed(2)

    found = kept_of(claimed, {}, guard=Guard(("*",), knows), protected=(), has_keys=True)

    assert found == {}


def test_what_was_never_sent_is_denied_and_what_may_have_run_is_unknown() -> None:
    plain = kept_mark(Mark(calls=2), BY_KEY)
    doubtful = kept_mark(Mark(doubt=True, calls=1), BY_KEY)

    assert (plain.verdict, plain.evidence, plain.code, plain.calls) == (
        *(Verdict.DENIED, Evidence.NONE, "protected", 2),
    )
    assert (doubtful.verdict, doubtful.code, doubtful.calls) == (Verdict.UNKNOWN, "protected", 1)
