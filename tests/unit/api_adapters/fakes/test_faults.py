"""Faults come when the plan says so, and always the same for a seed."""

import pytest

from api_adapters.fakes.faults import Fault, Plan


def drawn(text: str, calls: int, *, seed: int = 0) -> list[Fault | None]:
    plan = Plan(text, seed=seed)
    rules = [plan.draw() for _ in range(calls)]
    return [rule.fault if rule else None for rule in rules]


def test_no_plan_draws_nothing() -> None:
    assert drawn("", 3) == [None] * 3


def test_a_fault_alone_comes_always() -> None:
    assert drawn("lost", 2) == [Fault.LOST] * 2


def test_a_fault_comes_at_every_nth_call() -> None:
    assert drawn("lost/3", 6) == [None, None, Fault.LOST] * 2


def test_a_fault_comes_at_one_call() -> None:
    assert drawn("expired@2", 3) == [None, Fault.EXPIRED, None]


def test_chance_is_the_same_for_a_seed() -> None:
    first = drawn("html=0.3", 200, seed=7)

    assert drawn("html=0.3", 200, seed=7) == first
    assert drawn("html=0.3", 200, seed=8) != first
    assert 30 < first.count(Fault.HTML) < 90


def test_of_several_the_first_written_comes_and_is_counted() -> None:
    plan = Plan("busy:2.5/2, lost")

    rules = [plan.draw() for _ in range(4)]

    assert [rule.fault for rule in rules if rule] == [Fault.LOST, Fault.BUSY] * 2
    assert rules[1] is not None
    assert rules[1].value == 2.5
    assert plan.drawn == {Fault.LOST: 2, Fault.BUSY: 2}


@pytest.mark.parametrize("text", ["late", "lost/0", "lost/x", "lost:", "lost@1/2", "=1"])
def test_a_plan_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Plan(text)
