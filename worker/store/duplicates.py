"""How later ones of equal keys are found and dropped."""

from typing import Any

from sqlalchemy import Row, delete, func, select

from worker.store.tables import items, strays
from worker.store.transaction import Tx

#: Rows deleted in one transaction, so that no lock is held for long.
STRIDE = 10_000


def drop_some(tx: Tx, seq: int) -> bool:
    """Delete later ones of equal keys, a stride of them; True when none is left."""
    place = func.row_number().over(partition_by=items.c.key, order_by=items.c.position)
    ranked = (
        select(items.c.position, place.label("place"))
        .where(items.c.job == seq, items.c.key.is_not(None))
        .subquery()
    )
    later = list(
        tx.execute(select(ranked.c.position).where(ranked.c.place > 1).limit(STRIDE)).scalars()
    )
    for start in range(0, len(later), 500):
        some = later[start : start + 500]
        # What was kept at the door has a key, and an outcome already.
        for table in (strays, items):
            tx.execute(delete(table).where(table.c.job == seq, table.c.position.in_(some)))
    return len(later) < STRIDE


def counts(row: Row[Any], distinct: int) -> dict[str, int]:
    """The counts of a job of which so many items are distinct.

    What is copied from another job was not counted before, and has no duplicates.
    """
    is_copy = row.plan is not None or row.parent is not None
    given = distinct if is_copy else row.items + row.duplicates
    return {"items": distinct, "duplicates": given - distinct}
