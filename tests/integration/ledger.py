"""What a job claims of its items, held against what its backend really did."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from api_adapters.fakes.base import Practice
from worker.client import JobStatus, Outcome


def disagreements(
    status: JobStatus,
    outcomes: Sequence[Outcome],
    practice: Practice,
    *,
    items: Collection[str],
    strangers: Collection[str] = (),
    poison: Collection[str] = (),
    others: Collection[str] = (),
) -> Iterator[str]:
    """What is wrong with the end of a job of all these items.

    The backend never had the `strangers`, refuses what is `poison` to it, and
    was asked by other jobs for the `others`.
    """
    if (status.state, status.items) != ("completed", len(items)):
        yield f"it is {status.state} with {status.items} items: {status.reason}"
    if sorted(str(one.item) for one in outcomes) != sorted(items):
        yield "its outcomes are not one for each item"
    counted = Counter(one.verdict for one in outcomes)
    if {verdict: count for verdict, count in status.tally.items() if count} != counted:
        yield f"its tally is {status.tally}, its outcomes are {counted}"
    if practice.deleted.keys() - {*items, *others}:
        yield "something was deleted that was not asked for"
    for one in outcomes:
        if not _is_true(one, practice, strangers=strangers, poison=poison):
            yield f"{one} was asked {practice.asked[str(one.item)]} times"


def _is_true(
    one: Outcome, practice: Practice, *, strangers: Collection[str], poison: Collection[str]
) -> bool:
    """Whether an outcome says what is so, and no more than the worker can know."""
    item = str(one.item)
    is_ours = practice.deleted[item] == 1
    if item in practice.remaining:
        return one.verdict == "rejected" and item in poison
    match one.verdict, one.evidence:
        case "deleted", "item":
            return is_ours
        # Nobody heard that it was deleted, and who asked again was told that it
        # is not there. What was claimed counts as sent, so of a stranger it is
        # said too.
        case "absent", "repeat":
            return practice.asked[item] > 1 if is_ours else item in strangers
        case "absent", "item":
            return not is_ours and item in strangers
    return False
