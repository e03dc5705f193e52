"""Keys that must stay: how they are written, dropped and told.

Whoever protects keys holds the target's row at the end, as a claim does all the
time: a claim either comes afterwards and keeps them, or came before, and then
they are counted here. Many keys take seconds to write, so it is not held before.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Row, and_, delete, select

from worker.errors import RefusedRequest
from worker.guarding import PROTECTED
from worker.job import JobId
from worker.store import printing
from worker.store.base import Protected, Protection, Unprotected, Who
from worker.store.claiming import lock_target
from worker.store.ranges import claimed_of, is_held, protected_in
from worker.store.reading import row_at
from worker.store.tables import batches, jobs, leases, protected
from worker.store.transaction import Tx

#: Keys named in one statement.
AT_ONCE = 500
#: An event names the digests of so many keys; the keys themselves it never names.
MOST_TOLD = 100


def protect(
    tx: Tx,
    target: str,
    texts: Mapping[bytes, str],
    who: Who,
    until: datetime | timedelta | None,
) -> Protected:
    """Write keys, or their new reason and end; how many are new, and how many may be sent still."""
    now = tx.now()
    end = _end(until, now)
    _drop_lapsed(tx, target, now)
    known = sum(len(some) for some in _known(tx, target, list(texts)))
    rows = [
        {
            "target": target,
            "key": key,
            "item": text,
            "reason": who.reason,
            "until": end,
            "os_user": who.os_user,
            "by": who.by,
            "created_at": now,
        }
        # In one order, so that two commands cannot wait for each other.
        for key, text in sorted(texts.items())
    ]
    new = tx.insert(protected)
    names = ("item", "reason", "until", "os_user", "by", "created_at")
    for start in range(0, len(rows), AT_ONCE):
        tx.execute(
            new.on_conflict_do_update(
                index_elements=[protected.c.target, protected.c.key],
                set_={name: new.excluded[name] for name in names},
            ),
            rows[start : start + AT_ONCE],
        )
    detail = {**_told(texts), "until": None if end is None else end.isoformat()}
    tx.note("keys.protected", now=now, target=target, who=who, detail=detail)
    lock_target(tx, target)
    return Protected(len(texts) - known, _out(tx, target, texts.keys(), tx.now()))


def unprotect(tx: Tx, target: str, keys: Collection[bytes], who: Who) -> Unprotected:
    """Drop keys; what they kept back in jobs that have ended stays as it was decided."""
    now = tx.now()
    _drop_lapsed(tx, target, now)
    found = [key for some in _known(tx, target, sorted(keys)) for key in some]
    kept: Counter[JobId] = Counter()
    for some in _parts(found):
        named = and_(protected.c.target == target, protected.c.key.in_(some))
        tx.execute(delete(protected).where(named))
        kept += _kept(tx, some)
    tx.note("keys.unprotected", now=now, target=target, who=who, detail=_told(found))
    return Unprotected(len(found), dict(kept))


def protection(tx: Tx, target: str, key: bytes) -> Protection | None:
    """What protects a key, if anything does."""
    row = tx.first(select(protected).where(is_held(target, tx.now()), protected.c.key == key))
    return None if row is None else _as_protection(row)


def protections(tx: Tx, target: str, after: bytes, limit: int) -> Sequence[Protection]:
    """Protected keys of a target, by key, beyond one."""
    beyond = select(protected).where(is_held(target, tx.now()), protected.c.key > after)
    rows = tx.execute(beyond.order_by(protected.c.key).limit(limit))
    return [_as_protection(row) for row in rows]


def _end(until: datetime | timedelta | None, now: datetime) -> datetime | None:
    """The moment until which a protection holds. Raises RefusedRequest."""
    end = now + until if isinstance(until, timedelta) else until
    if end is not None and end <= now:
        message = f"until: {end:%Y-%m-%d %H:%M:%S} UTC has passed: nothing would be protected"
        raise RefusedRequest("invalid_message", message)
    return end


def _drop_lapsed(tx: Tx, target: str, now: datetime) -> None:
    """Drop what holds no longer."""
    tx.execute(delete(protected).where(protected.c.target == target, protected.c.until <= now))


def _known(tx: Tx, target: str, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Those of the keys that are protected, some at a time."""
    for some in _parts(keys):
        named = and_(protected.c.target == target, protected.c.key.in_(some))
        yield list(tx.execute(select(protected.c.key).where(named)).scalars())


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The keys, some at a time."""
    for start in range(0, len(keys), AT_ONCE):
        yield keys[start : start + AT_ONCE]


def _told(keys: Collection[bytes]) -> dict[str, Any]:
    """What an event tells of keys: enough to ask whether one was among them."""
    some = sorted(keys)[:MOST_TOLD]
    return {"keys": len(keys), "digests": [key.hex() for key in some]}


def _out(tx: Tx, target: str, keys: Collection[bytes], now: datetime) -> int:
    """How many of the keys are open in batches that a worker has."""
    held = tx.execute(
        select(batches, jobs.c.id.label("job_id"))
        .join(leases, leases.c.id == batches.c.lease)
        .join(jobs, jobs.c.seq == batches.c.job)
        .where(leases.c.target == target)
    ).all()
    if not held:
        return 0
    named = {
        (job, position): key
        for job, position, key in protected_in(tx, held, target=target, now=now)
        if key in keys
    }
    still_open = {
        (one.batch.seq, position) for one in claimed_of(tx, held) for position in one.positions
    }
    return len({key for place, key in named.items() if place in still_open})


def _kept(tx: Tx, keys: Sequence[bytes]) -> Counter[JobId]:
    """How many items of these keys were kept, by ended job that nobody tried again."""
    child = jobs.alias("child")
    is_retried = select(child.c.seq).where(child.c.parent == jobs.c.id).exists()
    ended = select(jobs.c.id).where(jobs.c.finished_at.is_not(None), ~jobs.c.dry_run, ~is_retried)
    kept: Counter[JobId] = Counter()
    for job, places in groupby(sorted(printing.found_of(tx, keys)), key=itemgetter(0)):
        row = tx.first(ended.where(jobs.c.seq == job))
        if row is None:
            continue
        for _, place in places:
            known = row_at(tx, job, place.position)
            kept[JobId(row.id)] += known is not None and known.code == PROTECTED
    return +kept


def _as_protection(row: Row[Any]) -> Protection:
    """A row of `protected` as a thing."""
    return Protection(
        key=bytes(row.key),
        text=row.item,
        reason=row.reason,
        until=row.until,
        os_user=row.os_user,
        by=row.by,
        created_at=row.created_at,
    )
