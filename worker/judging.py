"""What one adapter call means for the batches it carried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from api_adapters.base import Evidence, Finding, Reply, Verdict
from api_adapters.errors import CallFailed, Hopeless, Paced, Refused, Transient
from worker.batch import Batch, Claimed, Returned, give_back
from worker.guarding import kept_mark
from worker.item import MAX_CODE, MAX_MESSAGE, Mark, legible
from worker.retrying import LONGEST_PATIENCE, RetryRules, told_wait
from worker.splitting import can_split, halve


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision depends on beside the batch and the reply."""

    retry: RetryRules
    #: Drawn from 0 to 1 for the jitter.
    chance: float
    #: How many batches shared the call.
    company: int = 1
    #: Whether the target answered other calls lately, so that a fault that
    #: outlasts all attempts is likely to lie in an item.
    target_answers: bool = False


def judge(
    claimed: Claimed,
    keys: Mapping[int, str],
    reply: Reply,
    *,
    given: Circumstances,
    kept: Mapping[int, str] | None = None,
) -> Returned:
    """Decide what one reply means for one batch of the call.

    Pure: the same arguments always give the same decision. `keys` names the
    positions by key; a position that is not in it cannot be sent any more and
    is rejected. `kept` are those that must stay and were not sent, with why.
    """
    if not kept and (one := _common_mark(claimed, keys, reply)) is not None:
        return Returned(replace(claimed.batch, mark=one))
    marks = _marks(claimed, keys, reply)
    if kept:
        marks |= _keep(claimed, kept)
    still_open = [position for position, mark in marks.items() if not mark.is_final]
    tried = [position for position in still_open if keys[position] not in reply.unsent]
    if not tried:
        return give_back(claimed, marks)
    return _judge_open(claimed, keys, reply, marks, tried=tried, given=given)


def _judge_open(
    claimed: Claimed,
    keys: Mapping[int, str],
    reply: Reply,
    marks: dict[int, Mark],
    *,
    tried: Sequence[int],
    given: Circumstances,
) -> Returned:
    """Decide about a batch of which some items were sent and have no outcome."""
    match reply.error:
        # A shared call is parted by batches first, so that one job's poison
        # never costs another job its outcome.
        case Refused() if given.company > 1:
            returned = give_back(claimed, marks)
            return _with(returned, company=(given.company + 1) // 2)
        case Refused() if can_split(marks.values()):
            # Its halves stay alone: one of them holds the culprit.
            returned = give_back(claimed, marks)
            still_open = [position for position, mark in marks.items() if not mark.is_final]
            return halve(_with(returned, company=1), still_open)
        # Hopeless for one job of a shared call need not be so for the others.
        case Hopeless(closes_target=False) if given.company > 1:
            returned = give_back(claimed, marks)
            return _with(returned, company=(given.company + 1) // 2)
        # Alone responsible for a refused call.
        case Refused() as refused:
            return give_back(claimed, _close(marks, tried, Verdict.REJECTED, refused))
        # The executor stops the job or closes the target, and the batch waits;
        # what a look still showed was not deleted.
        case Hopeless():
            seen = frozenset(p for p in tried if keys[p] in reply.seen)
            return give_back(claimed, marks | _settle(marks, seen))
        # Being told to wait is not a failure, so it costs no attempt.
        case Transient(wait=timedelta() as wait) if _is_patient(claimed.batch, wait):
            told = claimed.batch.told_to_wait + told_wait(wait)
            returned = _with(give_back(claimed, marks), told_to_wait=told)
            return replace(returned, rest=told_wait(wait))
        case _:
            seen = frozenset(p for p in tried if keys[p] in reply.seen)
            return _after_failure(claimed, marks, tried, seen, error=reply.error, given=given)


def _common_mark(claimed: Claimed, keys: Mapping[int, str], reply: Reply) -> Mark | None:
    """The final mark of all open items where the same is known, and found, of each.

    It is so of most batches, and of a thousand items it is told by two passes
    that make no object. All that has a key was sent.
    """
    if claimed.marks or reply.unsent or not keys or len(keys) != len(claimed.positions):
        return None
    if reply.common is None and reply.common_finding(keys.values()) is None:
        return None
    mark = _mark(claimed.batch.mark, next(iter(keys.values())), reply)
    return mark if mark.is_final else None


def _marks(claimed: Claimed, keys: Mapping[int, str], reply: Reply) -> dict[int, Mark]:
    """What the reply says of every open position.

    Items of which the same is known, and the same is found, share one mark.
    """
    marks: dict[int, Mark] = {}
    known: dict[tuple[int, int], tuple[Finding, Mark]] = {}
    for item in claimed.items:
        key = keys.get(item.position)
        finding = reply.findings.get(key) if key is not None and key not in reply.unsent else None
        if finding is None:
            marks[item.position] = _mark(item.mark, key, reply)
            continue
        # The finding is kept, so that its id stays its own.
        same = (id(item.mark), id(finding))
        if same not in known:
            known[same] = (finding, _mark(item.mark, key, reply))
        marks[item.position] = known[same][1]
    return marks


def _keep(claimed: Claimed, kept: Mapping[int, str]) -> dict[int, Mark]:
    """The outcomes of positions that must stay; alike ones share one mark."""
    marks: dict[tuple[int, str], Mark] = {}
    for item in claimed.items:
        if (why := kept.get(item.position)) is not None:
            marks.setdefault((id(item.mark), why), kept_mark(item.mark, why))
    return {
        item.position: marks[id(item.mark), kept[item.position]]
        for item in claimed.items
        if item.position in kept
    }


def judge_loss(claimed: Claimed, *, given: Circumstances) -> Returned:
    """Decide what becomes of a batch whose worker never gave it back.

    What was claimed counts as sent: the worker may have died after the call.
    """
    lost = Transient("the worker that had claimed it was lost", code="worker_lost")
    keys = {position: str(position) for position in claimed.positions}
    return judge(claimed, keys, Reply(error=lost), given=given)


def judge_end(claimed: Claimed, *, code: str, message: str) -> Returned:
    """Decide what becomes of a ready batch when its job ends before its time."""
    marks = {item.position: end_mark(item.mark, code, message) for item in claimed.items}
    return give_back(claimed, marks)


def end_mark(mark: Mark, code: str, message: str) -> Mark:
    """The outcome of an open item of a job that ends: skipped, or unknown in doubt."""
    ended = replace(mark, code=code, message=message[:MAX_MESSAGE])
    if mark.doubt:
        return replace(ended, verdict=Verdict.UNKNOWN)
    # Calls that cannot have run, such as refused connections, sent nothing.
    return replace(ended, verdict=Verdict.SKIPPED, calls=0)


def _mark(mark: Mark, key: str | None, reply: Reply) -> Mark:
    """What the reply says of one item that was open."""
    if key is None:
        return replace(
            mark,
            verdict=Verdict.UNKNOWN if mark.doubt else Verdict.REJECTED,
            code="invalid_item",
            message="the target as it is configured now does not take this item",
        )
    if key in reply.unsent:
        return mark
    finding = reply.findings.get(key)
    if finding is None:
        return _silent(mark, reply.error)
    if finding.verdict in {Verdict.UNKNOWN, Verdict.SKIPPED}:
        return _unknown(mark, finding)
    return _found(mark, finding)


def _silent(mark: Mark, error: CallFailed | None) -> Mark:
    """An item of which the answer says nothing, or for which none came."""
    if isinstance(error, Paced):
        return mark
    if error is None:
        message = "the answer left the item out"
        return replace(mark, doubt=True, calls=mark.calls + 1, code="left_out", message=message)
    return replace(
        mark,
        doubt=mark.doubt or error.may_have_run,
        calls=mark.calls + 1,
        code=_cut(error.code, MAX_CODE),
        message=_cut(error.message, MAX_MESSAGE),
    )


def _unknown(mark: Mark, finding: Finding) -> Mark:
    """An item that the answer names and yet leaves open."""
    return Mark(
        verdict=None if finding.may_repeat else Verdict.UNKNOWN,
        code=_cut(finding.code, MAX_CODE),
        message=_cut(finding.message, MAX_MESSAGE),
        doubt=True,
        calls=mark.calls + 1,
    )


def _found(mark: Mark, finding: Finding) -> Mark:
    """An item with a final verdict; in doubt we do not claim what we may have done."""
    is_repeat = mark.doubt and finding.verdict is Verdict.ABSENT
    return Mark(
        verdict=finding.verdict,
        evidence=Evidence.REPEAT if is_repeat else finding.evidence,
        code=_cut(finding.code, MAX_CODE),
        message=_cut(finding.message, MAX_MESSAGE),
        doubt=mark.doubt,
        calls=mark.calls + 1,
    )


def _after_failure(
    claimed: Claimed,
    marks: Mapping[int, Mark],
    tried: Sequence[int],
    seen: frozenset[int],
    *,
    error: CallFailed | None,
    given: Circumstances,
) -> Returned:
    """One attempt less: wait for the next, part the batch, or give up.

    What a look after the last attempt still showed was not deleted.
    """
    failures = claimed.batch.failures + 1
    if not given.retry.is_used_up(failures):
        returned = _with(give_back(claimed, marks), failures=failures)
        return replace(returned, rest=given.retry.wait_after(failures, chance=given.chance))
    # One item that makes the vendor fail does not take the others along: the
    # call is parted as a refused one is, with one try left.
    if error is not None and given.target_answers:
        last_try = _with(give_back(claimed, marks), failures=given.retry.max_attempts - 1)
        if given.company > 1:
            return _with(last_try, company=(given.company + 1) // 2)
        if can_split(marks.values()):
            open_positions = [p for p, mark in marks.items() if not mark.is_final]
            return halve(_with(last_try, company=1), open_positions)
    closed = _close(marks, tried, Verdict.FAILED, error)
    return _with(give_back(claimed, closed | _settle(marks, seen)), failures=failures)


def _settle(marks: Mapping[int, Mark], seen: frozenset[int]) -> dict[int, Mark]:
    """What a look showed after the last call: it was not deleted."""
    return {
        position: replace(marks[position], verdict=Verdict.FAILED, evidence=Evidence.PROBE)
        for position in seen
    }


def _close(
    marks: Mapping[int, Mark], positions: Sequence[int], verdict: Verdict, error: CallFailed | None
) -> dict[int, Mark]:
    """Give these positions this verdict; `failed` becomes `unknown` in doubt."""
    closed = dict(marks)
    for position in positions:
        mark = marks[position]
        in_doubt = verdict is Verdict.FAILED and mark.doubt
        closed[position] = replace(mark, verdict=Verdict.UNKNOWN if in_doubt else verdict)
        if error is not None and verdict is Verdict.REJECTED:
            closed[position] = replace(closed[position], evidence=Evidence.ITEM)
    return closed


def _is_patient(batch: Batch, wait: timedelta) -> bool:
    """Whether the batch may be told to wait once more."""
    return batch.told_to_wait + told_wait(wait) <= LONGEST_PATIENCE


def _with(returned: Returned, **changes: Any) -> Returned:
    """The same, with other numbers in its batch."""
    return replace(returned, batch=replace(returned.batch, **changes))


def _cut(text: str | None, length: int) -> str | None:
    """At most so many characters of a text, that can be kept and shown."""
    return text if text is None else legible(text, length=length)
