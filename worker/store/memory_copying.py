"""How the in-memory twin copies items from one job to another."""

from datetime import datetime

from api_adapters.base import Verdict
from worker.item import Mark
from worker.store.memory_rows import JobRow, StrayRow


def copy_leftovers(parent: JobRow, child: JobRow, now: datetime, *, limit: int) -> bool:
    """Copy what the parent left over, with its doubt; True when all is there."""
    wanted = {Verdict(verdict) for verdict in child.options["leftovers"]}
    missing = [
        position
        for position in parent.positions()
        if position not in child.items and parent.mark(position)[0].verdict in wanted
    ]
    for position in missing[:limit]:
        item = parent.items[position]
        # What was kept at the door may be sent by now.
        child.put(item if item.key is None else item._replace(refusal=None), now)
        is_in_doubt = parent.mark(position)[0].doubt
        if is_in_doubt and position not in child.strays:
            child.strays[position] = StrayRow(Mark(doubt=True), None)
    return len(missing) <= limit
