"""The rescuer: what a lost worker had counts as sent."""

from datetime import timedelta

import pytest

from tests.factories import MINUTE, appetite, keys
from tests.fakes import House
from worker import rescuer as rescuing
from worker.store.base import Claim, Who


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=4, max_attempts=2)


def lose_a_worker(house: House) -> None:
    """Claim what is ready and never come back."""
    target = house.targets["crm"]
    claim = house.store.claim(
        "crm",
        fingerprint=target.fingerprint,
        holder="lost",
        lasting=MINUTE,
        appetite=lambda _: appetite(call_items=100, places=100),
    )
    assert isinstance(claim, Claim)


def test_what_a_lost_worker_had_is_in_doubt(house: House) -> None:
    house.adapter.missing = {"k0"}
    job = house.submitted(keys(2))
    lose_a_worker(house)
    house.clock.advance(MINUTE * 2)

    house.work_off()

    assert house.told(job) == {"k0": "absent/repeat", "k1": "deleted/item"}


def test_a_living_lease_is_left_alone(house: House) -> None:
    house.submitted(keys(2))
    lose_a_worker(house)
    house.clock.advance(MINUTE / 2)

    assert house.rescuer.rescue() == ()
    assert house.work().calls == 0


def test_workers_that_are_lost_again_and_again_use_up_the_attempts(house: House) -> None:
    job = house.submitted(keys(2))
    for _ in range(2):
        lose_a_worker(house)
        house.clock.advance(MINUTE * 2)
        ended = house.rescuer.rescue()
        house.clock.advance(MINUTE)

    assert ended == (job,)
    assert house.told(job) == {"k0": "unknown/none", "k1": "unknown/none"}


def test_what_is_cancelled_meanwhile_is_unknown_never_skipped(house: House) -> None:
    job = house.submitted(keys(6))
    house.work()
    other = house.submitted(keys(2, prefix="other"))
    lose_a_worker(house)
    house.store.cancel(other, Who())
    house.clock.advance(MINUTE * 2)

    house.work_off()

    assert set(house.told(job).values()) == {"deleted/item"}
    assert set(house.told(other).values()) == {"unknown/none"}


def test_many_lost_leases_are_taken_over_in_strides(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescuing, "LEASES_A_STRIDE", 2)
    for number in range(5):
        house.submitted([f"k{number}"])
        lose_a_worker(house)
    house.clock.advance(MINUTE * 2)

    left = []
    while house.store.target_note("crm").live_leases or len(left) < 3:
        house.rescuer.rescue()
        look = house.store.look(every=timedelta())
        assert look is not None
        left.append(look.has_lost_leases)

    assert left == [True, True, False]


def test_a_lost_lease_of_a_target_that_is_gone_is_given_back(house: House) -> None:
    job = house.submitted(keys(2))
    lose_a_worker(house)
    house.clock.advance(MINUTE * 2)
    house.targets.clear()

    house.rescuer.rescue()

    assert house.store.status(job).batches["ready"] == 1
