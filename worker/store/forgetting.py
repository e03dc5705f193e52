"""How an item is dropped from jobs that have settled."""

from sqlalchemy import select, update

from worker.store import printing
from worker.store.base import Forgotten, Who
from worker.store.paging import rows_between, take_out
from worker.store.tables import chunks, jobs
from worker.store.transaction import Tx


def forget(tx: Tx, target: str, key: bytes, who: Who) -> Forgotten:
    """Drop a key's items from settled jobs; the event names no item."""
    forgotten = kept = 0
    # In one order, so that two who forget cannot wait for each other.
    for job in sorted({job for job, _ in printing.found(tx, key)}):
        # Whoever else forgets, or prunes, writes pages of the job anew: one at a time.
        held = tx.execute(tx.locked(select(jobs.c.finished_at).where(jobs.c.seq == job)))
        is_settled = held.scalar_one() is not None
        for place in printing.found_in(tx, job, key):
            forgotten += is_settled
            kept += not is_settled
            if is_settled:
                for row in rows_between(tx, job, place.position, place.position):
                    take_out(tx, row, [place.position])
        if is_settled:
            printing.drop(tx, job, key)
            # One of them may be the key itself.
            tx.execute(update(chunks).where(chunks.c.job == job).values(lowest=None, highest=None))
    detail = {"jobs": forgotten, "kept": kept}
    tx.note("item.forgotten", now=tx.now(), target=target, who=who, detail=detail)
    return Forgotten(forgotten=forgotten, kept=kept)
