"""How much one claim takes of quick and of slow targets."""

from datetime import timedelta

import pytest

from tests.fakes import House
from worker.target import Target
from worker.wanting import want, want_at_first

MILLISECOND = timedelta(milliseconds=1)


def target(*, places: int = 4, size: int = 100) -> Target:
    return House(max_items_per_call=size, max_in_flight=places).targets["crm"]


def test_one_call_finds_out_how_long_they_take() -> None:
    wanted = want(target(), None)

    assert (wanted.calls, wanted.least, wanted.is_slow) == (1, 1, False)


@pytest.mark.parametrize(
    ("took", "places", "calls", "least"),
    [
        (MILLISECOND / 10, 4, 100, 100),
        (10 * MILLISECOND, 4, 100, 25),
        (100 * MILLISECOND, 4, 10, 2),
        (100 * MILLISECOND, 16, 40, 2),
        (timedelta(minutes=1), 16, 1, 1),
    ],
)
def test_a_claim_is_worth_a_second_or_of_many_slow_places_four(
    took: timedelta, places: int, calls: int, least: int
) -> None:
    wanted = want(target(places=places), took)

    assert (wanted.calls, wanted.least) == (calls, least)


def test_no_more_items_are_in_hand_than_memory_allows() -> None:
    assert want(target(size=10_000), MILLISECOND).calls == 4


def test_slices_begin_with_less_by_chance() -> None:
    calls = [
        want_at_first(target(), 100 * MILLISECOND, chance=chance).calls for chance in (0, 0.5, 1)
    ]

    assert calls == [10, 6, 3]


def test_a_slice_begins_with_one_call_at_least() -> None:
    assert want_at_first(target(), timedelta(minutes=1), chance=1).calls == 1
