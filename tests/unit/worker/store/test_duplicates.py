"""Whether a print stands twice is told of large parts too."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.store import duplicates


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 5))
def test_prints_are_compared_as_one_whatever_is_in_memory_at_once(
    prints: list[int], at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(duplicates, "AT_ONCE", at_once)

        assert duplicates.are_distinct(array("Q", prints)) == (len(set(prints)) == len(prints))


def test_one_print_of_many_that_stands_twice_is_seen() -> None:
    many = array("Q", range(0, 2**63, 2**63 // (3 * duplicates.AT_ONCE)))

    assert duplicates.are_distinct(many)
    assert not duplicates.are_distinct(many + array("Q", [many[-1]]))
