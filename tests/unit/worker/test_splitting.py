"""How items become batches, batches calls, and a refused batch two."""

from hypothesis import given
from hypothesis import strategies as st

from tests.factories import all_marked, final, make_batch, make_claimed
from worker.batch import Claimed, give_back
from worker.item import Mark
from worker.splitting import can_split, cut, fill_calls, halve


def _from_steps(steps: list[tuple[int, int, bool]]) -> list[tuple[int, int, bool]]:
    places, position = [], -1
    for gap, length, is_open in steps:
        position += gap
        places.append((position, length, is_open))
    return places


PLACES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40), st.booleans()), max_size=60).map(
    _from_steps
)


@given(PLACES, st.integers(1, 9), st.integers(1, 100))
def test_cutting_loses_nothing(
    places: list[tuple[int, int, bool]], max_items: int, max_bytes: int
) -> None:
    ranges = list(cut(places, max_items=max_items, max_bytes=max_bytes))

    covered = [[p for p, _, _ in places if first <= p <= last] for first, last, _ in ranges]
    assert [p for part in covered for p in part] == [p for p, _, _ in places]
    assert [len(part) for part in covered] == [items for _, _, items in ranges]
    assert all((part[0], part[-1]) == one[:2] for part, one in zip(covered, ranges, strict=True))


@given(PLACES, st.integers(1, 9), st.integers(1, 100))
def test_a_range_is_bounded(
    places: list[tuple[int, int, bool]], max_items: int, max_bytes: int
) -> None:
    for first, last, items in cut(places, max_items=max_items, max_bytes=max_bytes):
        inside = [(size, is_open) for p, size, is_open in places if first <= p <= last]
        assert sum(is_open for _, is_open in inside) <= max_items
        assert items <= 3 * max_items
        assert items == 1 or sum(size for size, _ in inside) <= max_bytes


def test_nothing_is_cut_into_nothing() -> None:
    assert list(cut([], max_items=5)) == []


def test_items_refused_at_the_door_do_not_fill_a_range() -> None:
    places = [(0, 1, False), (1, 1, True), (2, 1, False), (3, 1, True)]

    assert list(cut(places, max_items=2)) == [(0, 3, 4)]


def claimed_of(size: int, company: int | None) -> Claimed:
    return make_claimed(size, company=company)


BATCHES = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([None, 1, 2, 4])).map(lambda p: claimed_of(*p)),
    max_size=15,
)


@given(BATCHES, st.integers(1, 10))
def test_filling_calls_loses_no_batch(batches: list[Claimed], max_items: int) -> None:
    calls = list(fill_calls(batches, max_items=max_items))

    assert sorted(id(one) for call in calls for one in call) == sorted(map(id, batches))
    assert all(calls)


@given(BATCHES, st.integers(1, 10))
def test_a_call_keeps_its_bounds(batches: list[Claimed], max_items: int) -> None:
    for call in fill_calls(batches, max_items=max_items):
        assert len(call) == 1 or sum(len(one.items) for one in call) <= max_items
        assert all(one.batch.company is None or len(call) <= one.batch.company for one in call)


def test_small_batches_share_a_call() -> None:
    batches = [make_claimed(1) for _ in range(5)]

    assert [len(call) for call in fill_calls(batches, max_items=3)] == [3, 2]


def test_a_batch_that_must_stay_alone_does_not_shrink_the_calls_of_others() -> None:
    batches = [make_claimed(1), make_claimed(1, company=1), make_claimed(1)]

    assert [len(call) for call in fill_calls(batches, max_items=9)] == [2, 1]


@given(st.sets(st.integers(0, 500), min_size=2, max_size=40))
def test_halves_rejoin_to_the_whole(open_positions: set[int]) -> None:
    claimed = make_claimed(1)
    returned = give_back(claimed, all_marked(claimed, Mark()))

    middle = halve(returned, list(open_positions)).split_at

    assert middle is not None
    left = {p for p in open_positions if p < middle}
    right = open_positions - left
    assert 0 <= len(right) - len(left) <= 1
    assert left


@given(st.sets(st.integers(0, 63), min_size=1))
def test_halving_ends_at_the_item(open_positions: set[int]) -> None:
    parts, rounds = [sorted(open_positions)], 0
    returned = give_back(make_claimed(1), {0: Mark()})
    while any(len(part) > 1 for part in parts):
        middles = [halve(returned, part).split_at if part[1:] else None for part in parts]
        parts = [
            half
            for part, middle in zip(parts, middles, strict=True)
            for half in (
                [[p for p in part if p < middle], [p for p in part if p >= middle]]
                if middle is not None
                else [part]
            )
        ]
        rounds += 1

    assert [p for part in parts for p in part] == sorted(open_positions)
    assert rounds <= 6


def test_only_more_than_one_open_item_can_be_split() -> None:
    assert can_split([Mark(), Mark(doubt=True)])
    assert not can_split([Mark(), final(), final()])


def test_a_split_leaves_the_batch_as_it_is() -> None:
    claimed = make_claimed(4)
    returned = give_back(claimed, all_marked(claimed, Mark()))

    assert halve(returned, [0, 1, 2, 3]).batch == make_batch(0, 3)
