"""What a demonstration says of each vendor fits its adapter and its practice server."""

from typing import Any

import pytest

from api_adapters import registry
from api_adapters.base import Adapter
from api_adapters.contract import FreePace
from api_adapters.errors import BadItem
from api_adapters.fakes.faults import Fault, Plan
from api_adapters.fakes.server import practice_type, vendors
from worker.cli.practice_backend import hide_secrets
from worker.cli.vendors import VENDORS


def adapter_of(name: str) -> Adapter:
    practice = practice_type(name)()
    shown, _ = hide_secrets(practice.settings, prefix="demo")
    kind = registry.load(name)
    table: dict[str, Any] = {"adapter": name, "base_url": "http://127.0.0.1:1", **shown}
    return kind(kind.Settings.model_validate(table), pace=FreePace())


def test_every_vendor_with_a_practice_server_is_shown() -> None:
    assert set(VENDORS) == set(vendors())


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_misbehaves_only_as_it_can(name: str) -> None:
    rules = Plan(VENDORS[name].misbehave)._rules

    assert {rule.fault for rule in rules}.isdisjoint(practice_type(name).impossible)


@pytest.mark.parametrize("name", VENDORS)
def test_every_vendor_loses_answers_tells_to_wait_and_fails(name: str) -> None:
    faults = {rule.fault for rule in Plan(VENDORS[name].misbehave)._rules}

    assert Fault.LOST in faults
    assert faults & {Fault.BUSY, Fault.BUSY_DATE, Fault.BUSY_CODE}
    assert faults & {Fault.ERROR, Fault.HTML}


@pytest.mark.parametrize("name", VENDORS)
def test_two_spellings_are_one_item_for_the_adapter(name: str) -> None:
    key_of, spellings = adapter_of(name).key, VENDORS[name].spellings
    idents = practice_type(name).ids(300, seed=3)

    keys = [key_of(spellings.write(ident)) for ident in idents]

    assert keys == [key_of(spellings.respell(ident)) for ident in idents]
    assert len(set(keys)) == len(idents)


@pytest.mark.parametrize("name", VENDORS)
def test_malformed_items_are_refused_at_the_door(name: str) -> None:
    adapter, spellings = adapter_of(name), VENDORS[name].spellings

    assert spellings.malformed
    for item in spellings.malformed:
        with pytest.raises(BadItem):
            adapter.key(item)
    assert all(adapter.key(item) for item in spellings.refused)
