"""Bells: at most one a target that no worker has come to yet."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, or_, select

from worker.store.base import BELL_PATIENCE, DECLINED_FOR
from worker.store.ranges import has_ready, rest_of
from worker.store.tables import Moment, bells
from worker.store.transaction import Tx, moment_of


def answer_bell(tx: Tx, target: str) -> None:
    """Nobody waits for a worker to come to this target any more.

    Committed before a claim reads what is ready: what comes later rings anew.
    """
    answer_and_ring(tx, target, tx.now(), is_due=False)


def decline_bell(tx: Tx, target: str) -> None:
    """Whoever came is busy enough: the bell counts as rung for a moment longer."""
    now = tx.now()
    _hear(tx, target, now, rung_at=now - BELL_PATIENCE + DECLINED_FOR)


def answer_and_ring(tx: Tx, target: str, now: datetime, *, is_due: bool) -> None:
    """The same, and where it is due the next bell counts as rung at once."""
    _hear(tx, target, now, rung_at=now if is_due else None)


def _hear(tx: Tx, target: str, now: datetime, *, rung_at: datetime | None) -> None:
    """Count the bell as answered, and perhaps as rung anew."""
    tx.execute(_hearing(tx.dialect.insert), {"target": target, "now": now, "rung_at": rung_at})


@cache
def _hearing(insert: Callable[[Any], Any]) -> Any:
    """The statement of `_hear`, made once."""
    new = insert(bells).values(
        target=bindparam("target"),
        answered_at=bindparam("now", type_=Moment),
        rung_at=bindparam("rung_at", type_=Moment),
    )
    heard = {"answered_at": new.excluded.answered_at, "rung_at": new.excluded.rung_at}
    return new.on_conflict_do_update(index_elements=[bells.c.target], set_=heard)


def is_rung(tx: Tx, target: str) -> bool:
    """Whether a bell rings already, as far as can be seen without waiting for anybody."""
    clock, given = tx.moment()
    row = tx.execute(_known(clock), {**given, "of_target": target}).one()
    return row.rung_at is not None and row.rung_at >= row.now - BELL_PATIENCE


def may_ring(tx: Tx, target: str) -> bool:
    """Compare-and-set: a bell is due and now counts as rung."""
    now = tx.now()
    if rest_of(tx, target, now) or not has_ready(tx, target, now):
        return False
    return ring(tx, target, now)


@cache
def _known(clock: str) -> Any:
    """The statement of `is_rung`, made once."""
    asked = select(moment_of(clock).label("now")).cte("asked")
    of_target = asked.outerjoin(bells, bells.c.target == bindparam("of_target"))
    return select(asked.c.now, bells.c.rung_at).select_from(of_target)


def ring(tx: Tx, target: str, now: datetime) -> bool:
    """Count a bell as rung, unless one is that nobody has come to yet."""
    given = {"target": target, "now": now, "long_ago": now - BELL_PATIENCE}
    return tx.execute(_ringing(tx.dialect.insert), given).first() is not None


@cache
def _ringing(insert: Callable[[Any], Any]) -> Any:
    """The statement of `ring`, made once."""
    new = insert(bells).values(target=bindparam("target"), rung_at=bindparam("now", type_=Moment))
    long_ago = bindparam("long_ago", type_=Moment)
    is_unheard = or_(bells.c.rung_at.is_(None), bells.c.rung_at < long_ago)
    rung = new.on_conflict_do_update(
        index_elements=[bells.c.target], set_={"rung_at": new.excluded.rung_at}, where=is_unheard
    )
    return rung.returning(bells.c.target)
