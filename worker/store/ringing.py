"""Bells: at most one a target that no worker has come to yet."""

from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from worker.store.base import BELL_PATIENCE, DECLINED_FOR
from worker.store.ranges import has_ready, rest_of
from worker.store.tables import bells
from worker.store.transaction import Tx


def answer_bell(tx: Tx, target: str) -> None:
    """Nobody waits for a worker to come to this target any more.

    Committed before a claim reads what is ready: what comes later rings anew.
    """
    answer_and_ring(tx, target, tx.now(), is_due=False)


def decline_bell(tx: Tx, target: str) -> None:
    """Whoever came is busy enough: the bell counts as rung for a moment longer."""
    now = tx.now()
    heard: dict[str, Any] = {"answered_at": now, "rung_at": now - BELL_PATIENCE + DECLINED_FOR}
    new = tx.insert(bells).values(target=target, **heard)
    tx.execute(new.on_conflict_do_update(index_elements=[bells.c.target], set_=heard))


def answer_and_ring(tx: Tx, target: str, now: datetime, *, is_due: bool) -> None:
    """The same, and where it is due the next bell counts as rung at once."""
    heard: dict[str, Any] = {"answered_at": now, "rung_at": now if is_due else None}
    new = tx.insert(bells).values(target=target, **heard)
    tx.execute(new.on_conflict_do_update(index_elements=[bells.c.target], set_=heard))


def may_ring(tx: Tx, target: str) -> bool:
    """Compare-and-set: a bell is due and now counts as rung."""
    now = tx.now()
    known = tx.first(select(bells.c.rung_at).where(bells.c.target == target))
    if known is not None and known.rung_at and known.rung_at >= now - BELL_PATIENCE:
        return False
    if rest_of(tx, target, now) or not has_ready(tx, target, now):
        return False
    return ring(tx, target, now)


def ring(tx: Tx, target: str, now: datetime) -> bool:
    """Count a bell as rung, unless one is that nobody has come to yet."""
    new = tx.insert(bells).values(target=target, rung_at=now)
    is_unheard = or_(bells.c.rung_at.is_(None), bells.c.rung_at < now - BELL_PATIENCE)
    rung = new.on_conflict_do_update(
        index_elements=[bells.c.target], set_={"rung_at": now}, where=is_unheard
    )
    return tx.first(rung.returning(bells.c.target)) is not None
