"""How an item is dropped from jobs that have settled."""

from itertools import groupby
from operator import itemgetter

from sqlalchemy import select

from worker.store import prints as printing
from worker.store.base import Forgotten, Who
from worker.store.pages import rows_between, take_out
from worker.store.tables import jobs
from worker.store.transaction import Tx


def forget(tx: Tx, target: str, key: bytes, who: Who) -> Forgotten:
    """Drop a key's items from settled jobs; the event names no item."""
    places = sorted((job, place.position) for job, place in printing.found(tx, key))
    forgotten = kept = 0
    for job, some in groupby(places, key=itemgetter(0)):
        positions = [position for _, position in some]
        finished_at = tx.execute(select(jobs.c.finished_at).where(jobs.c.seq == job)).scalar_one()
        if finished_at is None:
            kept += len(positions)
            continue
        for position in positions:
            for row in rows_between(tx, job, position, position):
                take_out(tx, row, [position])
        printing.drop(tx, job, key)
        forgotten += len(positions)
    detail = {"jobs": forgotten, "kept": kept}
    tx.note("item.forgotten", now=tx.now(), target=target, who=who, detail=detail)
    return Forgotten(forgotten=forgotten, kept=kept)
