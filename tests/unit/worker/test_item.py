"""Items as text, their digests, and how an outcome is shown."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Evidence, Verdict
from worker.item import Mark, Outcome, digest_of_key, digests_of_keys, from_json, to_json

VALUES = st.recursive(
    st.text() | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_an_item_is_written_as_any_json(item: object) -> None:
    assert to_json(item) == json.dumps(item, separators=(",", ":"))


@given(st.text() | st.integers() | st.dictionaries(st.text(), VALUES, max_size=4))
def test_an_item_comes_back_as_it_was(item: str | int | dict[str, object]) -> None:
    text = to_json(item)

    assert from_json(text) == item
    assert text.isascii()


def test_the_fields_of_an_item_stay_in_their_order() -> None:
    assert list(from_json(to_json({"b": 1, "a": 2}))) == ["b", "a"]  # type: ignore[arg-type]


def test_half_a_surrogate_pair_is_kept() -> None:
    assert from_json(to_json("\ud800")) == "\ud800"
    assert digest_of_key("crm", "\ud800") != digest_of_key("crm", "\ud801")


@given(st.text(), st.text())
def test_keys_differ_as_their_digests_do(one: str, other: str) -> None:
    assert (digest_of_key("crm", one) == digest_of_key("crm", other)) == (one == other)


@given(st.lists(st.text(st.characters(), max_size=5) | st.sampled_from(["a\nb", "\n", "\ud800"])))
def test_many_keys_are_told_by_what_tells_one(keys: list[str]) -> None:
    assert digests_of_keys("crm", keys) == [digest_of_key("crm", key) for key in keys]


def test_equal_keys_of_two_targets_cannot_be_told_to_be_equal() -> None:
    assert digest_of_key("crm", "7") != digest_of_key("erp", "7")
    assert len(digest_of_key("crm", "7")) == 16


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_a_mark_with_a_verdict_is_final(verdict: Verdict | None) -> None:
    assert Mark(verdict).is_final == (verdict is not None)


def test_an_outcome_is_shown_as_the_contract_says() -> None:
    mark = Mark(Verdict.FAILED, Evidence.ITEM, "E1", "no", doubt=True, calls=2)

    assert Outcome(4, '{"id":1}', mark, datetime(2026, 1, 2, tzinfo=UTC)).as_json() == {
        "position": 4,
        "item": {"id": 1},
        "verdict": "failed",
        "evidence": "item",
        "code": "E1",
        "message": "no",
        "attempts": 2,
        "decided_at": "2026-01-02T00:00:00.000Z",
    }


def test_an_open_item_is_shown_without_a_verdict() -> None:
    shown = Outcome(0, '"a"', Mark(), None).as_json()

    assert (shown["verdict"], shown["evidence"], shown["decided_at"]) == (None, "none", None)
