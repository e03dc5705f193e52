"""A lot holds what it is made of, whatever the chance."""

from hypothesis import given
from hypothesis import strategies as st

from worker.cli.lot import Kind, Spellings, Stock, Wanted, mixed_lot

SPELLINGS = Spellings(respell=str.upper, malformed=(None, ""), refused=({"title": "a"},))


def lot_of(*, doubled: int = 0, malformed: int = 0, seed: int = 1) -> list[Wanted]:
    stock = Stock(["a", "b", "c"], ["d"], frozenset({"b"}))
    return mixed_lot(stock, SPELLINGS, doubled=doubled, malformed=malformed, seed=seed)


@given(st.integers(0, 5), st.integers(0, 5), st.integers())
def test_every_thing_is_asked_for_and_no_other(doubled: int, malformed: int, seed: int) -> None:
    lot = lot_of(doubled=doubled, malformed=malformed, seed=seed)

    assert len(lot) == 3 + 1 + 1 + doubled + malformed
    assert {wanted.ident for wanted in lot} - {None} == {"a", "b", "c", "d", '{"title": "a"}'}
    assert sum(wanted.kind is Kind.MALFORMED for wanted in lot) == malformed


def test_a_doubled_thing_keeps_its_kind_in_its_other_spelling() -> None:
    doubled = [wanted for wanted in lot_of(doubled=30) if str(wanted.item).isupper()]

    assert len(doubled) == 30
    assert all(wanted.ident == wanted.item.lower() for wanted in doubled)
    assert {wanted.kind for wanted in doubled if wanted.ident == "b"} == {Kind.HELD}


def test_what_the_backend_refuses_is_held_and_has_one_name() -> None:
    (refused,) = [wanted for wanted in lot_of() if wanted.item == {"title": "a"}]

    assert refused.kind is Kind.HELD
    assert refused.ident == '{"title": "a"}'


def test_a_lot_is_the_same_for_a_seed() -> None:
    assert lot_of(doubled=3, malformed=3) == lot_of(doubled=3, malformed=3)
    assert lot_of(doubled=3, seed=2) != lot_of(doubled=3, seed=3)
