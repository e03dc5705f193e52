"""What happens to items at the door."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Item, Verdict
from api_adapters.errors import BadItem
from tests.fakes import ScriptedAdapter
from worker.admitting import MAX_DEPTH, admit, is_too_deep, without_duplicates
from worker.errors import RefusedRequest
from worker.item import MAX_ITEM_BYTES, from_json, rank_of
from worker.store.base import Chunk


def taken(*values: Any, number: int = 0, chunk_items: int = 0) -> Chunk:
    key_of = ScriptedAdapter().key
    return admit(values, target="crm", key_of=key_of, number=number, chunk_items=chunk_items)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("value", [1.5, True, False, None, [], ["a"]])
def test_what_is_no_item_is_rejected_alone_with_its_position(value: Any) -> None:
    chunk = taken("a", value, "b")

    assert [one.position for one in chunk.items] == [0, 1, 2]
    refused = [one.refusal for one in chunk.items]
    assert (refused[0], refused[2]) == (None, None)
    assert refused[1] is not None
    assert (refused[1].verdict, refused[1].code) == (Verdict.REJECTED, "malformed")
    assert from_json(chunk.items[1].text) == value


def test_an_item_that_the_adapter_refuses_is_rejected_in_its_words() -> None:
    refusal = taken("a", "").items[1].refusal

    assert refusal is not None
    assert (refusal.code, refusal.message) == ("invalid_item", "expected an id")


def test_an_adapter_that_breaks_over_an_item_rejects_it_without_its_text() -> None:
    def broken(item: Any) -> str:
        raise KeyError(item)

    refusal = admit(["somebody"], target="crm", key_of=broken).items[0].refusal

    assert refusal is not None
    assert refusal.verdict is Verdict.REJECTED
    assert "somebody" not in (refusal.message or "")


def test_an_item_of_16_kib_is_taken_and_a_larger_one_refuses_the_request() -> None:
    at_the_limit = "x" * (MAX_ITEM_BYTES - 2)
    assert taken(at_the_limit).items[0].refusal is not None  # its key is too long

    with pytest.raises(RefusedRequest) as refused:
        taken("a", at_the_limit + "x")

    assert (refused.value.code, refused.value.data["position"]) == ("too_large", 1)


def test_an_item_is_measured_as_it_was_given_not_as_it_is_kept() -> None:
    item = {"id": "a", "name": "ü" * 8_000}

    (landed,) = taken(item).items

    assert len(landed.text) > MAX_ITEM_BYTES
    assert from_json(landed.text) == item


@pytest.mark.parametrize(("length", "is_taken"), [(1_024, True), (1_025, False)])
def test_a_key_has_a_longest_length(length: int, is_taken: bool) -> None:  # noqa: FBT001
    (landed,) = taken("k" * length).items

    assert (landed.refusal is None) == is_taken
    if landed.refusal is not None:
        assert landed.refusal.code == "key_too_long"


def test_keys_are_measured_in_bytes() -> None:
    (landed,) = taken("ü" * (513)).items

    assert landed.refusal is not None


def test_an_object_that_celery_would_revive_stays_as_it_is() -> None:
    item = {"id": "a", "__type__": "datetime", "__value__": "x"}

    assert from_json(taken(item).items[0].text) == item


@pytest.mark.parametrize("value", [nested(MAX_DEPTH), [nested(MAX_DEPTH)], nested(900)])
def test_an_item_that_is_nested_too_deep_refuses_the_request(value: Any) -> None:
    with pytest.raises(RefusedRequest) as refused:
        taken(value)

    assert refused.value.code == "invalid_message"
    assert not is_too_deep(nested(MAX_DEPTH - 1))


def test_a_chunk_knows_its_place() -> None:
    chunk = taken("a", "b", number=3, chunk_items=100)

    assert [one.position for one in chunk.items] == [300, 301]


def test_equal_keys_keep_the_first_and_count_as_duplicates() -> None:
    chunk = without_duplicates(taken("a", "A", "", "", {"id": "a"}, "b"))

    assert [one.position for one in chunk.items] == [0, 2, 3, 5]
    assert chunk.given == 6


def test_the_same_content_has_the_same_digest() -> None:
    assert taken("a", 1).digest == taken("a", 1).digest
    assert taken("a", 1).digest != taken("a", "1").digest
    assert taken({"a": 1, "b": 2}).digest != taken({"b": 2, "a": 1}).digest


def test_a_long_refusal_is_cut() -> None:
    def wordy(_: Any) -> str:
        raise BadItem("w" * 1_000, code="c" * 100)

    refusal = admit(["a"], target="crm", key_of=wordy).items[0].refusal

    assert refusal is not None
    assert (len(refusal.message or ""), len(refusal.code or "")) == (300, 64)


@given(st.lists(st.one_of(st.text(max_size=5), st.integers(), st.none(), st.just("x" * 2_000))))
def test_what_lands_at_once_is_what_lands_one_by_one(values: list[Any]) -> None:
    adapter = ScriptedAdapter()

    at_once = admit(values, target="crm", key_of=adapter.key, keys_of=adapter.keys)

    assert at_once == admit(values, target="crm", key_of=adapter.key)


def at_once(*values: Any) -> Chunk:
    adapter = ScriptedAdapter()
    return admit(values, target="crm", key_of=adapter.key, keys_of=adapter.keys)


@given(st.lists(st.integers(-5, 200)) | st.lists(st.text("09aü\0", max_size=2)))
def test_a_chunk_that_has_ends_has_keys_that_ascend_between_them(values: list[Item]) -> None:
    chunk = at_once(*values)

    if chunk.ends is not None:
        keys = list(map(ScriptedAdapter().key, values))
        assert chunk.ends == (keys[0], keys[-1])
        assert all(rank_of(one) < rank_of(next_) for one, next_ in pairwise(keys))


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0, 9, 10, 2**70], ("0", str(2**70))),
        (["a7", "b6", "b7"], ("a7", "b7")),
        (["a"], ("a", "a")),
        ([], None),
        ([1, 1], None),
        ([-2, -1], None),
        (["9", "10"], None),
        (["\ud800"], None),
        (["a\0"], None),
        ([1, "2"], ("1", "2")),
    ],
    ids=ascii,
)
def test_only_what_ascends_has_ends(values: list[Item], ends: tuple[str, str] | None) -> None:
    assert at_once(*values).ends == ends


def test_keys_that_do_not_ascend_as_their_numbers_do_are_not_taken_to() -> None:
    def without_end(items: Sequence[Item]) -> list[str]:
        return [str(item)[:1] for item in items]

    chunk = admit(list(range(8, 14)), target="crm", key_of=str, keys_of=without_end)

    assert chunk.ends is None


def test_an_adapter_that_breaks_over_many_is_asked_for_each() -> None:
    def broken(items: Sequence[Item]) -> list[str]:
        raise ZeroDivisionError

    chunk = admit(["a", "b"], target="crm", key_of=ScriptedAdapter().key, keys_of=broken)

    assert [one.refusal for one in chunk.items] == [None, None]


def test_keys_of_another_number_than_items_are_not_relied_on() -> None:
    def one_too_many(items: Sequence[Item]) -> list[str]:
        return ["extra", *map(str, items)]

    key_of = ScriptedAdapter().key

    chunk = admit(["a", "b"], target="crm", key_of=key_of, keys_of=one_too_many)

    assert chunk == admit(["a", "b"], target="crm", key_of=key_of)
