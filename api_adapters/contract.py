"""The suite every adapter must pass, whatever it speaks to.

A test module subclasses `AdapterContract`, or `contract_http.HttpAdapterContract`
for a backend that is reached over HTTP, fills in what is marked as a hook, and
lets pytest collect it. For readable failures its conftest.py gives the modules
to `pytest.register_assert_rewrite`.
"""

# ruff: noqa: S101 - asserting is what a suite is for

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import ClassVar

import pytest

from api_adapters.base import GONE, Adapter, Deadline, Integers, Item, Presence, Reply, Verdict
from api_adapters.errors import BadItem
from api_adapters.settings import Secret, TargetSettings

#: What an item that is not there may be called.
NOT_CLAIMED = frozenset({Verdict.ABSENT, Verdict.UNKNOWN, Verdict.ACCEPTED})


class FreePace:
    """Lets every request pass and counts them."""

    def __init__(self) -> None:
        self.entered = 0

    def enter(self, until: Deadline) -> None:
        self.entered += 1


def soon(seconds: float = 10) -> Deadline:
    """A deadline that only a broken adapter reaches."""
    return Deadline(timedelta(seconds=seconds))


def by_key(adapter: Adapter, items: Iterable[Item]) -> dict[str, Item]:
    """Items as `Adapter.delete` takes them."""
    return {adapter.key(item): item for item in items}


def assert_sound(reply: Reply, sent: Iterable[str]) -> None:
    """At most one word per key that was sent, and none for any other key."""
    keys = set(sent)
    assert set(reply.findings) <= keys
    assert reply.unsent <= keys
    assert reply.unsent.isdisjoint(reply.findings)
    assert Verdict.SKIPPED not in {finding.verdict for finding in reply.findings.values()}


class AdapterContract:
    """What holds for every adapter."""

    #: Hook: items that are refused before anything is sent.
    bad_items: ClassVar[tuple[Item, ...]] = ()
    #: Hook: pairs of spellings of one and the same item.
    same_items: ClassVar[tuple[tuple[Item, Item], ...]] = ()

    @pytest.fixture
    def adapter(self) -> Adapter:
        """Hook: an adapter on a backend that holds `existing`."""
        raise NotImplementedError

    @pytest.fixture
    def existing(self) -> list[Item]:
        """Hook: at least four items that are there."""
        raise NotImplementedError

    @pytest.fixture
    def missing(self) -> list[Item]:
        """Hook: at least two items that are not there."""
        raise NotImplementedError

    @pytest.fixture
    def remaining(self) -> Callable[[], set[str]]:
        """Hook: asks the backend itself for the keys of what is there now."""
        raise NotImplementedError

    def test_an_item_has_one_short_key(self, adapter: Adapter, existing: list[Item]) -> None:
        for item in existing:
            key = adapter.key(item)
            assert key == adapter.key(item)
            assert 0 < len(key.encode()) <= 1024

    def test_whether_a_key_says_what_is_deleted_is_known(
        self, adapter: Adapter, existing: list[Item]
    ) -> None:
        for item in existing:
            assert adapter.is_key_known(item) in {True, False}

    def test_two_spellings_of_one_item_have_one_key(self, adapter: Adapter) -> None:
        for one, other in self.same_items:
            assert adapter.key(one) == adapter.key(other)

    def test_an_item_of_a_wrong_form_is_refused_unsent(self, adapter: Adapter) -> None:
        for item in (*self.bad_items, ""):
            with pytest.raises(BadItem) as refusal:
                adapter.key(item)
            assert refusal.value.message

    def test_the_keys_of_many_are_those_of_each(
        self, adapter: Adapter, existing: list[Item], missing: list[Item]
    ) -> None:
        many = [*existing, *missing, *(item for pair in self.same_items for item in pair)]

        assert adapter.keys(many) == [adapter.key(item) for item in many]
        assert adapter.keys([]) == []

    def test_the_keys_of_many_integers_are_those_of_each(self, adapter: Adapter) -> None:
        _check_keys(adapter, Integers([0, 70, 3], ["0", "70", "3"]))

    def test_many_are_refused_for_one_of_a_wrong_form(
        self, adapter: Adapter, existing: list[Item]
    ) -> None:
        texts = [item for item in existing if isinstance(item, str)]
        # Two in one are none, unless they are an item by themselves.
        joined = [f"{one}{between}{one}" for one in texts[:1] for between in ("\n", "\0", ",")]
        for bad in (*self.bad_items, "", *joined):
            for many in ([bad], [*existing, bad], [bad, *existing]):
                _check_keys(adapter, many)

    def test_what_is_there_is_deleted(
        self, adapter: Adapter, existing: list[Item], remaining: Callable[[], set[str]]
    ) -> None:
        sent = by_key(adapter, existing)

        reply = adapter.delete(sent, until=soon())

        assert_sound(reply, sent)
        assert {f.verdict for f in reply.findings.values()} <= {Verdict.DELETED, Verdict.ACCEPTED}
        assert remaining().isdisjoint(sent)

    def test_what_is_not_there_is_never_called_deleted(
        self, adapter: Adapter, existing: list[Item], missing: list[Item]
    ) -> None:
        sent = by_key(adapter, [*existing, *missing])

        reply = adapter.delete(sent, until=soon())

        assert_sound(reply, sent)
        for key in by_key(adapter, missing):
            assert key not in reply.findings or reply.findings[key].verdict in NOT_CLAIMED

    def test_deleting_again_is_safe_and_claims_nothing(
        self, adapter: Adapter, existing: list[Item]
    ) -> None:
        sent = by_key(adapter, existing)
        adapter.delete(sent, until=soon())

        reply = adapter.delete(sent, until=soon())

        assert_sound(reply, sent)
        assert {finding.verdict for finding in reply.findings.values()} <= NOT_CLAIMED

    def test_only_what_was_sent_is_deleted(
        self, adapter: Adapter, existing: list[Item], remaining: Callable[[], set[str]]
    ) -> None:
        sent = by_key(adapter, existing[:1])
        others = remaining() - set(sent)

        adapter.delete(sent, until=soon())

        assert remaining() == others

    def test_a_probe_tells_there_from_gone(
        self, adapter: Adapter, existing: list[Item], missing: list[Item]
    ) -> None:
        if not adapter.can_probe:
            pytest.skip("this backend cannot be asked whether an item is there")
        there, gone = by_key(adapter, existing), by_key(adapter, missing)

        seen = adapter.probe(there | gone, until=soon())

        assert Presence.GONE not in {seen[key] for key in there if key in seen}
        assert Presence.THERE not in {seen[key] for key in gone if key in seen}

    def test_a_check_is_harmless_and_says_what_it_cannot_show(
        self, adapter: Adapter, remaining: Callable[[], set[str]]
    ) -> None:
        before = remaining()

        checked = adapter.check(until=soon())

        assert checked.shown
        assert checked.not_shown
        assert remaining() == before

    def test_closing_twice_does_no_harm(self, adapter: Adapter, existing: list[Item]) -> None:
        adapter.delete(by_key(adapter, existing), until=soon())
        adapter.close()
        adapter.close()

    def test_its_identity_names_settings_and_no_secret(self, adapter: Adapter) -> None:
        fields = adapter.Settings.model_fields
        assert issubclass(adapter.Settings, TargetSettings)
        for name in adapter.identity:
            assert Secret.__name__ not in str(fields[name].annotation)

    def test_its_limits_allow_at_least_one(self, adapter: Adapter) -> None:
        assert adapter.limits.max_items_per_call >= 1
        assert adapter.limits.max_in_flight >= 1
        assert adapter.limits.timeout > timedelta(0)


def _check_keys(adapter: Adapter, many: Sequence[Item]) -> None:
    """What `keys` says of many is what `key` says of each, a refusal too."""
    try:
        wanted = [adapter.key(item) for item in many]
    except BadItem:
        with pytest.raises(BadItem):
            adapter.keys(many)
    else:
        assert adapter.keys(many) == wanted


def gone_keys(reply: Reply) -> set[str]:
    """The keys that a reply calls deleted or absent."""
    return {key for key, finding in reply.findings.items() if finding.verdict in GONE}
