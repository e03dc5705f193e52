"""How an item is dropped from jobs that have settled."""

from sqlalchemy import and_, delete, select

from worker.store.base import Forgotten, Who
from worker.store.tables import items, jobs, strays
from worker.store.transaction import Tx


def forget(tx: Tx, target: str, key: bytes, who: Who) -> Forgotten:
    """Delete the rows of a key in settled jobs; the event names no item."""
    places = tx.execute(
        select(items.c.job, items.c.position, jobs.c.finished_at)
        .join(jobs, jobs.c.seq == items.c.job)
        .where(items.c.key == key)
    ).all()
    settled = [place for place in places if place.finished_at is not None]
    for place in settled:
        for table in (strays, items):
            tx.execute(
                delete(table).where(
                    and_(table.c.job == place.job, table.c.position == place.position)
                )
            )
    kept = len(places) - len(settled)
    detail = {"jobs": len(settled), "kept": kept}
    tx.note("item.forgotten", now=tx.now(), target=target, who=who, detail=detail)
    return Forgotten(forgotten=len(settled), kept=kept)
