"""Totals are right however many write them at once, and nobody waits for another in a ring."""

from pathlib import Path

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps
from tests.factories import SECOND, all_marked, appetite, final, keys
from tests.integration.stores import at_once, empty_store
from worker.batch import give_back
from worker.call import Answer, Call
from worker.job import JobId
from worker.store import totalling
from worker.store.base import CallNote, Claim, Store, Who
from worker.store.sql import SqlStore

TARGETS = ("crm", "erp")
NOTE = CallNote(SECOND, answered=True, is_alive=True, calls=(Call(Answer.OK, SECOND),))


def delete_all(store: Store) -> int:
    """Claim and record on both targets in turn until nothing is left; how many calls."""
    steps, calls, idle = Steps(store), 0, 0
    while idle < 2:
        target = TARGETS[(calls + idle) % 2]
        claim = steps.try_claim(appetite(call_items=2, places=99), target=target)
        if not isinstance(claim, Claim):
            idle += 1
            continue
        idle, calls = 0, calls + 1
        marked = [give_back(one, all_marked(one, final())) for one in claim.batches]
        store.record(claim.lease, marked, call=NOTE)
    return calls


def cancel_all(store: Store, jobs: list[JobId]) -> int:
    """Cancel jobs while they are worked on, and end what nobody has."""
    for job in jobs:
        store.cancel(job, Who())
        while store.end_ready(job, limit=3):
            pass
    return 0


@pytest.mark.parametrize("parts", [1, pytest.param(totalling.PARTS, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_all_who_write_at_once_are_counted(
    kind: str, parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one row all of them meet in it.
    monkeypatch.setattr(totalling, "PARTS", parts)
    with empty_store(kind, tmp_path) as url:
        store = SqlStore(url)
        steps = Steps(store)
        jobs = [
            steps.running(keys(30, prefix=f"{target}{n}-"), size=2, target=target)
            for n in range(6)
            for target in TARGETS
        ]
        works = [delete_all] * 4 + [lambda own: cancel_all(own, jobs[:3])]
        told = at_once(url, *works, lambda own: cancel_all(own, jobs[3:6]))
        assert not [one for one in told if isinstance(one, Exception)]
        for job in jobs:
            while store.end_ready(job, limit=9):
                pass
            store.settle(job)

        backlogs = store.measure().backlogs
        tallies = [store.status(job) for job in jobs]
        store.close()
    for target in TARGETS:
        items = backlogs[target].totals.items
        own = [status for status in tallies if status.job.target == target]
        assert items == {v: sum(one.tally[v] for one in own) for v in Verdict}
        assert sum(items.values()) == 180
        assert (backlogs[target].ready, backlogs[target].leased) == (0, 0)
    calls = sum(backlogs[target].totals.calls[Answer.OK] for target in TARGETS)
    assert calls == sum(one for one in told if isinstance(one, int))
