"""A batch: its open items, its moves, and what a give-back writes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Verdict
from tests.factories import all_marked, final, make_batch, make_claimed
from worker.batch import MOVES, BatchState, Claimed, Returned, give_back
from worker.item import Mark

DOUBT = Mark(doubt=True, calls=1)
MARKS = st.sampled_from([Mark(), DOUBT, final(), final(Verdict.ABSENT), final(code="x")])


def known_after(claimed: Claimed, returned: Returned) -> dict[int, Mark]:
    """What a store would know of the open items once this was written."""
    before = {item.position: item.mark for item in claimed.items if item.position in claimed.marks}
    return {
        item.position: returned.strays.get(
            item.position, before.get(item.position, returned.batch.mark)
        )
        for item in claimed.items
    }


def test_a_new_range_is_all_open() -> None:
    assert make_batch(0, 9).open_items == 10


def test_strays_are_no_part_of_what_a_range_says() -> None:
    assert make_batch(0, 9, strays={None: 2, Verdict.DELETED: 3}).open_items == 7
    assert make_batch(0, 9, mark=final(), strays={None: 2, Verdict.DENIED: 3}).open_items == 2


def test_one_mark_for_all_needs_no_stray() -> None:
    claimed = make_claimed(4)

    returned = give_back(claimed, all_marked(claimed, final()))

    assert (returned.batch.mark, returned.strays) == (final(), {})
    assert returned.state is BatchState.DONE


def test_the_commonest_mark_is_the_ranges() -> None:
    claimed = make_claimed(4)

    returned = give_back(claimed, all_marked(claimed, final()) | {2: DOUBT})

    assert (returned.batch.mark, returned.strays) == (final(), {2: DOUBT})
    assert returned.batch.strays == {None: 1}
    assert returned.state is BatchState.READY


def test_a_range_keeps_its_verdict() -> None:
    claimed = make_claimed(2, marks={0: DOUBT, 1: DOUBT}, items=9, mark=final())

    returned = give_back(claimed, {0: final(Verdict.ABSENT), 1: final(Verdict.ABSENT)})

    assert returned.batch.mark == final()
    assert set(returned.strays) == {0, 1}
    assert returned.batch.strays == {Verdict.ABSENT: 2}


def test_only_changed_strays_are_written() -> None:
    claimed = make_claimed(2, marks={0: DOUBT, 1: DOUBT}, items=9, mark=final())

    assert give_back(claimed, {0: DOUBT, 1: final()}).strays == {1: final()}


def test_what_was_not_sent_goes_back_as_it_was() -> None:
    claimed = make_claimed(4, marks={1: DOUBT})
    as_it_was = {item.position: item.mark for item in claimed.items}

    assert give_back(claimed, as_it_was) == Returned(claimed.batch)


@given(st.lists(MARKS, min_size=1, max_size=12), st.sets(st.integers(0, 11)), st.booleans())
def test_giving_back_loses_nothing(marks: list[Mark], strayed: set[int], is_decided: bool) -> None:  # noqa: FBT001
    count = len(marks)
    open_strays = {p: DOUBT for p in range(count) if is_decided or p in strayed}
    mark = final(Verdict.DENIED) if is_decided else Mark()
    claimed = make_claimed(count, marks=open_strays, mark=mark)
    wanted = dict(enumerate(marks))

    returned = give_back(claimed, wanted)

    assert known_after(claimed, returned) == wanted
    assert returned.batch.open_items == sum(not one.is_final for one in marks)
    counted = Counter(one.verdict for one in (open_strays | dict(returned.strays)).values())
    assert returned.batch.strays == dict(counted)


@given(st.lists(st.lists(MARKS, min_size=6, max_size=6), min_size=1, max_size=4))
def test_an_outcome_stays_through_any_number_of_give_backs(rounds: list[list[Mark]]) -> None:
    claimed = make_claimed(6)
    known = {position: Mark() for position in range(6)}
    strays: dict[int, Mark] = {}
    for marks in rounds:
        returned = give_back(claimed, {i.position: marks[i.position] for i in claimed.items})
        strays |= returned.strays
        before, known = known, {p: strays.get(p, returned.batch.mark) for p in range(6)}
        assert all(known[p] == mark for p, mark in before.items() if mark.is_final)
        open_places = {p: mark for p, mark in known.items() if not mark.is_final}
        assert returned.batch.open_items == len(open_places)
        if not open_places:
            return
        own = {place: open_places[place] for place in open_places.keys() & strays.keys()}
        claimed = Claimed(returned.batch, list(open_places), [f"k{p}" for p in open_places], own)


def test_a_batch_that_is_done_moves_no_more() -> None:
    assert BatchState.DONE not in MOVES
    assert set().union(*MOVES.values()) <= set(BatchState)
