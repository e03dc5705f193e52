"""Pages hold every item of a stretch once, whatever its holes and however large."""

import itertools
from collections import namedtuple

from hypothesis import given
from hypothesis import strategies as st

from worker.store import printing
from worker.store.packing import (
    NO_KEY,
    PAGE_BYTES,
    Place,
    Texts,
    frames,
    merged,
    places_of,
    row_of,
    rows_of,
)
from worker.store.tables import PLACES_OF_A_PAGE

Row = namedtuple("Row", "job first last items keyed bytes texts keys")

TEXTS = st.sampled_from(["", '"a"', "7", '{"b":1}'])
KEYS = st.one_of(st.none(), st.binary(min_size=16, max_size=16).filter(lambda key: key != NO_KEY))


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


@given(st.lists(TEXTS, max_size=30), st.integers(0, 5), st.data())
def test_what_lies_in_a_stretch_is_found_in_order(
    texts: list[str], first: int, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(texts))))) | {0, len(texts)})
    read = [(first + a, "\n".join(texts[a:b])) for a, b in itertools.pairwise(cuts)]
    begin = data.draw(st.integers(-1, 40))
    end = data.draw(st.integers(begin, 40))

    positions, found = Texts(read).between(begin, end)

    wanted = [(p, t) for p, t in enumerate(texts, first) if t and begin <= p <= end]
    assert list(zip(positions, found, strict=True)) == wanted


@given(st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([1, 9, 90_000])), max_size=40))
def test_rows_hold_every_item_and_are_bounded(given_places: list[tuple[int, int]]) -> None:
    places = [
        Place(position, "x" * size, key(position + 1))
        for position, size in dict(given_places).items()
    ]
    places.sort()

    framed = frames(places, PLACES_OF_A_PAGE)
    rows = [Row(*row) for one in framed for row in rows_of(7, *one)]

    assert [place for row in rows for place in places_of(row)] == places
    for row in rows:
        assert row.last - row.first < PLACES_OF_A_PAGE
        assert row.bytes <= PAGE_BYTES or row.items == 1
        assert len(row.keys) == 16 * (row.last - row.first + 1)
    assert all(one.last < other.first for one, other in itertools.pairwise(rows))


def test_a_row_counts_its_items_and_their_keys() -> None:
    row = Row(*row_of(7, 5, ['"a"', "", "12"], [key(1), None, None]) or ())

    assert (row.first, row.last, row.items, row.keyed, row.bytes) == (5, 7, 2, 1, 5)
    assert places_of(row) == [Place(5, '"a"', key(1)), Place(7, "12", None)]
    assert row_of(7, 5, ["", ""], [None, None]) is None


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 9_000), st.integers(0, 1_500))))
def testmerged_stretches_cover_the_same_and_have_no_page_in_common(
    given_stretches: list[tuple[int, int, int]],
) -> None:
    stretches = [(job, first, first + length) for job, first, length in given_stretches]

    apart = merged(stretches)

    for job, first, last in stretches:
        assert any(j == job and a <= first and last <= b for j, a, b in apart)
    for one, other in itertools.pairwise(apart):
        assert one[0] != other[0] or other[1] - one[2] >= PLACES_OF_A_PAGE


@given(st.lists(KEYS, max_size=60), st.integers(0, 9))
def test_each_print_stands_in_the_row_of_its_part(keys: list[bytes | None], first: int) -> None:
    rows = list(printing.rows_of(3, first, keys))

    found = [(part, one) for part, _, _, _, joined in rows for one in printing.cut(joined)]
    wanted = [
        (printing.part_of(one), one[: printing.PRINT_BYTES]) for one in keys if one is not None
    ]
    assert sorted(found) == sorted(wanted)
    assert all(
        (job, begin, end) == (3, first, first + len(keys) - 1) for _, job, begin, end, _ in rows
    )
    parts = [part for part, *_ in rows]
    assert parts == sorted(set(parts))


def test_prints_of_many_stand_together_by_ten_thousand() -> None:
    keys = [key(number << 100) for number in range(printing.PLACES + 1)]

    stretches = sorted({(first, last) for _, _, first, last, _ in printing.rows_of(3, 0, keys)})

    assert stretches == [(0, printing.PLACES - 1), (printing.PLACES, printing.PLACES)]
