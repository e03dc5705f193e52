"""One adapter call: what goes in, what comes back, and a look at what it left open."""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from api_adapters.base import Adapter, Deadline, Evidence, Finding, Item, Presence, Reply, Verdict
from api_adapters.errors import BadItem, CallFailed, Hopeless, Paced, Refused, Transient
from worker.batch import Claimed
from worker.call import Answer, Call
from worker.retrying import told_wait
from worker.store.base import CallNote

log = logging.getLogger("deletions.calling")

#: The code of a call whose adapter raised what none may raise.
ADAPTER_BROKE = "adapter_broke"


def delete(
    adapter: Adapter,
    items: Mapping[str, Item],
    query: Mapping[str, Any] | None = None,
    *,
    until: Deadline,
) -> Reply:
    """One adapter call, whose failures are part of the reply.

    `query` is the frozen one that found the items; an adapter that can say it
    in the same call keeps what no longer matches.
    """
    try:
        reply: object = (
            adapter.delete_found(items, query, until=until)
            if query is not None and adapter.repeats_query
            else adapter.delete(items, until=until)
        )
    except CallFailed as error:
        return Reply(error=error)
    # A stranger's adapter may raise anything; what it sent may have run, and a
    # worker that died of it would only be followed by the next.
    except Exception as error:  # noqa: BLE001
        return Reply(error=_broken(error))
    if isinstance(reply, Reply):
        return reply
    wrong = TypeError(f"it answered with {type(reply).__name__}")
    return Reply(error=_broken(wrong))


def _broken(error: Exception) -> Transient:
    """A break as a passing fault: the next try may be of another mind."""
    return Transient(f"the adapter broke: {note_broken(error)}", code=ADAPTER_BROKE)


def note_broken(error: Exception) -> str:
    """Log where an adapter broke; the error's name. What it said may hold an item."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in place]
    name = type(error).__name__
    log.error("adapter.broke", extra={"error": name, "where": "".join(where)})
    return name


def look_after(
    adapter: Adapter,
    items: Mapping[str, Item],
    reply: Reply,
    *,
    most: int,
    next_deadline: Callable[[], Deadline | None],
) -> Reply:
    """Probe the items that the reply leaves open, where the adapter can look.

    What is gone may have been deleted by this call, and nobody saw it before:
    where no answer came, `absent` by `repeat` claims no more than that.
    """
    if not adapter.can_probe or not _is_worth_a_look(reply.error):
        return reply
    common = reply.common_finding(items)
    if common is not None and common.verdict is not Verdict.UNKNOWN:
        return replace(reply, common=common)
    findings = dict(reply.findings)
    shown: set[str] = set()
    for part in _parts([key for key in items if _is_unclear(reply, key)], most):
        if (until := next_deadline()) is None:
            break
        try:
            seen = adapter.probe({key: items[key] for key in part}, until=until)
        except CallFailed:
            break
        # The answer to the call itself must not be lost with a look at it.
        except Exception as error:  # noqa: BLE001
            note_broken(error)
            break
        evidence = Evidence.PROBE if reply.error is None else Evidence.REPEAT
        gone = Finding(Verdict.ABSENT, evidence)
        findings.update({key: gone for key in part if seen.get(key) is Presence.GONE})
        shown.update(key for key in part if seen.get(key) is Presence.THERE)
    return replace(reply, findings=findings, seen=frozenset(shown))


def _is_worth_a_look(error: CallFailed | None) -> bool:
    """Whether items may be gone, and somebody would let us look."""
    match error:
        case None:
            return True
        case Refused() | Hopeless(closes_target=True):
            return False
    return error.may_have_run


def _is_unclear(reply: Reply, key: str) -> bool:
    """Whether a key may have been deleted without the reply saying so."""
    if key in reply.unsent:
        return False
    finding = reply.findings.get(key)
    return finding is None or finding.verdict is Verdict.UNKNOWN


def _parts(keys: Sequence[str], length: int) -> Iterator[Sequence[str]]:
    """The keys in parts of at most so many."""
    for start in range(0, len(keys), length):
        yield keys[start : start + length]


class Keyed(Mapping[int, str]):
    """Keys of positions without a hole, which need no entry each.

    >>> keys = Keyed(range(7, 9), ["a", "b"])
    >>> keys[8], keys.get(9), dict(keys)
    ('b', None, {7: 'a', 8: 'b'})
    """

    __slots__ = ("_keys", "_positions")

    def __init__(self, positions: range, keys: list[str]) -> None:
        self._positions = positions
        self._keys = keys

    def __getitem__(self, position: int) -> str:
        if position not in self._positions:
            raise KeyError(position)
        return self._keys[self._positions.index(position)]

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def values(self) -> list[str]:  # type: ignore[override]  # it is read as a view is
        """The keys in the order of their positions."""
        return self._keys


def keys_of(claimed: Claimed, adapter: Adapter) -> Mapping[int, str]:
    """The keys of a batch's open items, by position."""
    try:
        keys = adapter.keys(claimed.values)
        if isinstance(claimed.positions, range) and len(keys) == len(claimed.positions):
            # A stranger's adapter may fill the same list again.
            return Keyed(claimed.positions, list(keys))
        return dict(zip(claimed.positions, keys, strict=True))
    # One of them has none, or the adapter broke: then each is asked by itself.
    except Exception:  # noqa: BLE001
        return _keys_one_by_one(claimed, adapter)


def _keys_one_by_one(claimed: Claimed, adapter: Adapter) -> dict[int, str]:
    """The keys of those open items that have one, by position."""
    keys = {}
    for position, value in zip(claimed.positions, claimed.values, strict=True):
        try:
            keys[position] = adapter.key(value)
        except BadItem:
            # It was taken by another configuration; the judge rejects it.
            continue
        # Without a key it cannot be sent, now or later.
        except Exception as error:  # noqa: BLE001
            note_broken(error)
    return keys


def items_of(call: Sequence[Claimed], keys: Sequence[Mapping[int, str]]) -> dict[str, Item]:
    """Every key of a call once, with the item as its first asker gave it."""
    items: dict[str, Item] = {}
    for claimed, own in zip(call, keys, strict=True):
        if not items and len(own) == len(claimed.positions):
            items = dict(zip(own.values(), claimed.values, strict=True))
            if len(items) == len(own):
                continue
            # Equal keys of one job are one item, unless its target was changed.
            items = {}
        for position, value in zip(claimed.positions, claimed.values, strict=True):
            if position in own:
                items.setdefault(own[position], value)
    return items


def note_of(reply: Reply, took: timedelta) -> CallNote:
    """What a reply tells of the target."""
    rest, is_alive, failures = timedelta(), False, 0
    call = Call(answer_of(reply.error), took)
    match reply.error:
        # A claim takes what it expects to finish, the wait for the pace included.
        case Paced(wait=timedelta() as wait):
            took += wait
            rest = told_wait(wait)
        # A 429 slows the whole target, not just the worker that met it.
        case Transient(wait=timedelta() as wait):
            rest, is_alive = told_wait(wait), True
        case Transient():
            failures = 1
        # Whoever refuses is there.
        case Refused():
            is_alive = True
    answered = reply.error is None
    is_alive = is_alive or answered
    return CallNote(took, answered, rest, is_alive=is_alive, failures=failures, calls=(call,))


def answer_of(error: CallFailed | None) -> Answer:
    """How a call was answered, by what failed.

    >>> answer_of(None), answer_of(Transient("no answer in time"))
    (<Answer.OK: 'ok'>, <Answer.LOST: 'lost'>)
    """
    match error:
        case None:
            return Answer.OK
        case Refused():
            return Answer.REFUSED
        case Hopeless():
            return Answer.HOPELESS
        case Paced():
            return Answer.PACED
        case Transient(wait=timedelta()):
            return Answer.RATE_LIMITED
        case CallFailed(code=str() as code):
            return Answer.BROKEN if code == ADAPTER_BROKE else Answer.TRANSIENT
    return Answer.LOST if error.may_have_run else Answer.NO_CONNECTION


def sum_up(notes: Sequence[CallNote]) -> CallNote | None:
    """Several calls as one note: their mean time, and the longest wait told."""
    if not notes:
        return None
    return CallNote(
        took=sum((note.took for note in notes), timedelta()) / len(notes),
        answered=any(note.answered for note in notes),
        rest=max(note.rest for note in notes),
        is_alive=any(note.is_alive for note in notes),
        failures=_failures_since(notes),
        calls=tuple(call for note in notes for call in note.calls),
    )


def _failures_since(notes: Sequence[CallNote]) -> int:
    """How many calls failed since the last sign of life."""
    failures = 0
    for note in notes:
        failures = 0 if note.is_alive else failures + note.failures
    return failures
