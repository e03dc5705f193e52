"""Standing orders on real stores and real tables: clocks side by side, rows that move."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api_adapters.base import Deadline, Item, Reply
from api_adapters.contract import FreePace
from api_adapters.sql_table import SqlTable, SqlTableSettings
from tests.contract.adapters.sql_tables import Place, place
from tests.factories import Clock
from tests.fakes import FindingAdapter, House
from tests.integration.stores import at_once, empty_store
from worker.job import JobId
from worker.purge import PurgeRun
from worker.purger import Purger
from worker.scheduling import Schedule
from worker.store.base import Who
from worker.store.sql import SqlStore
from worker.target import Target

HOUR = timedelta(hours=1)
CLOCKS = 8


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_clocks_that_tick_at_once_one_begins_the_run(kind: str, tmp_path: Path) -> None:
    house = House(adapter=FindingAdapter(), allow_query=True)
    # The database's own clock: a run is due every second.
    order = house.order(schedule=Schedule(every=timedelta(seconds=1)))

    def tick(store: SqlStore) -> list[PurgeRun]:
        purger = Purger(store, purges=house.purges, targets=house.targets, adapters=house.adapters)
        runs: list[PurgeRun] = []
        while not store.purge_runs(order.name, limit=1):
            runs += purger.tick()
        return runs

    with empty_store(kind, tmp_path) as url:
        ticked = at_once(url, *[tick] * CLOCKS)
        store = SqlStore(url)
        jobs, history = store.jobs(limit=99), store.purge_runs(order.name, limit=99)
        store.close()

    assert [one for one in ticked if isinstance(one, Exception)] == []
    begun = [run for runs in ticked if isinstance(runs, list) for run in runs if run.job]
    assert len(begun) == len(jobs) == 1
    assert [one.run for one in history if one.run.job] == begun


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_runs_by_hand_at_once_are_one_run(kind: str, tmp_path: Path) -> None:
    house = House(adapter=FindingAdapter(), allow_query=True)
    house.order()

    def run(store: SqlStore) -> PurgeRun:
        purger = Purger(store, purges=house.purges, targets=house.targets, adapters=house.adapters)
        return purger.run_by_hand("old", Who(os_user="ann"))

    with empty_store(kind, tmp_path) as url:
        made = at_once(url, *[run] * CLOCKS)

    assert len([one for one in made if isinstance(one, PurgeRun)]) == 1
    assert {getattr(one, "code", "") for one in made if isinstance(one, Exception)} == {
        "wrong_state"
    }


class Watched(SqlTable):
    """Rows of a table; something happens before each deletion."""

    before: Callable[[], object] = staticmethod(lambda: None)

    def delete_found(
        self, items: Mapping[str, Item], query: Mapping[str, Any], *, until: Deadline
    ) -> Reply:
        """Let it happen, and delete what still matches."""
        self.before()
        return super().delete_found(items, query, until=until)


class Farm:
    """A house whose target is a table with ten old rows, two of which one call takes."""

    def __init__(self, table: Place) -> None:
        self.table = table
        table.run(
            "CREATE TABLE rows (id integer PRIMARY KEY, kind text)",
            "INSERT INTO rows VALUES " + ", ".join(f"({n}, 'old')" for n in range(10)),
        )
        settings = SqlTableSettings.model_validate(
            {
                "adapter": "sql_table",
                "url": table.url,
                "table": "rows",
                "key": "id",
                "query_columns": ["kind"],
                "allow_query": True,
                "max_items_per_call": 2,
            }
        )
        self.adapter = Watched(settings, pace=FreePace())
        table.adapters.append(self.adapter)
        self.house = House(Clock(), adapter=self.adapter)  # type: ignore[arg-type]  # a real one
        self.house.targets["crm"] = Target("crm", Watched, settings)
        where = [{"column": "kind", "op": "=", "value": "old"}]
        self.house.order(query={"where": where})
        self.house.purger.tick()

    def run(self) -> JobId:
        """One run from its due moment to its end."""
        self.house.clock.advance(HOUR)
        (run,) = self.house.purger.tick()
        assert run.job is not None
        self.house.planner.plan(run.job)
        self.house.work_off()
        return run.job

    def rows(self) -> set[int]:
        """What is left."""
        return {int(row[0]) for row in self.table.run("SELECT id FROM rows")}

    def once(self, *statements: str) -> None:
        """Run statements before the next deletion."""
        left = [statements]
        self.adapter.before = lambda: left and self.table.run(*left.pop())  # type: ignore[method-assign]


@pytest.fixture(params=["sqlite", "postgresql"])
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Farm]:
    with ExitStack() as opened:
        yield Farm(opened.enter_context(place(request.param, tmp_path)))


def test_what_a_run_finds_in_a_table_is_deleted(farm: Farm) -> None:
    job = farm.run()

    assert farm.rows() == set()
    assert farm.house.store.purge_succeeded_at("old") is not None
    assert set(farm.house.told(job).values()) == {"deleted/item"}


def test_a_row_that_is_renewed_while_it_deletes_stays(farm: Farm) -> None:
    farm.once("UPDATE rows SET kind = 'young' WHERE id IN (0, 9)")

    job = farm.run()

    assert farm.rows() == {0, 9}
    told = farm.house.told(job)
    assert (told["0"], told["9"], told["5"]) == ("denied/item", "denied/item", "deleted/item")


def test_a_row_that_appears_while_it_deletes_is_for_the_next_run(farm: Farm) -> None:
    farm.once("INSERT INTO rows VALUES (99, 'old')")

    job = farm.run()
    assert farm.rows() == {99}
    assert farm.house.store.job(job).items == 10

    farm.run()
    assert farm.rows() == set()


def test_a_row_that_is_deleted_and_made_again_while_it_deletes_stays_if_it_is_young(
    farm: Farm,
) -> None:
    farm.once("DELETE FROM rows WHERE id = 9", "INSERT INTO rows VALUES (9, 'young')")

    farm.run()

    assert farm.rows() == {9}


def test_a_run_that_finds_nothing_has_succeeded(farm: Farm) -> None:
    farm.run()
    farm.house.clock.advance(HOUR)
    job = farm.run()

    assert farm.house.store.job(job).items == 0
    assert farm.house.store.purge_succeeded_at("old") == farm.house.clock()
