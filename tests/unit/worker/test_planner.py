"""The planner: duplicates, brakes, dry runs, and plans that are interrupted."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Item
from tests.contract.stores.makers import make_memory, make_sqlite
from tests.factories import MINUTE, Clock, keys, some_id
from tests.fakes import AwayStore, House
from worker import planner as planning
from worker.errors import StoreUnavailable
from worker.job import JobId, JobState
from worker.splitting import MAX_BATCH_BYTES
from worker.store.base import Who


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=4)


def ranges(house: House, job: JobId) -> list[list[int]]:
    """The positions of each batch of a job, in order."""
    claimed = []
    while batches := getattr(claim(house), "batches", ()):
        claimed += [one for one in batches if one.batch.job == job]
    claimed.sort(key=lambda one: one.batch.first)
    return [[item.position for item in one.items] for one in claimed]


def claim(house: House) -> object:
    from tests.factories import appetite

    target = house.targets["crm"]
    return house.store.claim(
        "crm",
        fingerprint=target.fingerprint,
        holder="w1",
        lasting=MINUTE,
        appetite=lambda _: appetite(call_items=1, places=1_000),
    )


@pytest.mark.parametrize("maker", [make_memory, make_sqlite])
def test_equal_items_of_different_chunks_are_one(maker: object) -> None:
    clock = Clock()
    store = maker(clock)
    house = House(clock, store=store, max_items_per_call=4)
    job = some_id()
    house.desk.open({"job": job, "target": "crm", "chunk_items": 3})
    house.desk.append({"job": job, "chunk": 1, "items": ["A", "d"]})
    house.desk.append({"job": job, "chunk": 0, "items": ["a", "b", "c"]})
    house.desk.seal({"job": job, "chunks": 2})

    planned = house.planner.plan(job)
    house.work_off()

    assert planned is not None
    assert (planned.items, planned.duplicates) == (4, 1)
    assert [one.position for one in house.outcomes(job)] == [0, 1, 2, 4]
    store.close()


def test_a_job_is_cut_into_calls(house: House) -> None:
    job = house.submitted(keys(10))

    assert ranges(house, job) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@given(
    sent=st.lists(st.sampled_from(["item", "refused", "large", "hole"]), min_size=1, max_size=60),
    most=st.integers(1, 9),
    stride=st.integers(1, 20),
)
def test_a_job_is_cut_alike_however_it_is_summed_up(
    sent: list[str], most: int, stride: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "ITEMS_A_STRIDE", stride)
        patch.setattr(planning, "MAX_BATCH_BYTES", 100)
        house = House(max_items_per_call=most)
        given_items = {
            "item": lambda n: {"id": str(n)},
            "refused": lambda _: {"none": 1},
            "large": lambda n: {"id": str(n), "text": "x" * 90},
            "hole": lambda _: {"id": "same"},
        }
        job = house.submitted([given_items[kind](n) for n, kind in enumerate(sent)])

        cut_at = ranges(house, job)

    found = [position for one in cut_at for position in one]
    first_hole = sent.index("hole") if "hole" in sent else None
    assert found == [
        n for n, kind in enumerate(sent) if kind in {"item", "large"} or n == first_hole
    ]
    assert max(map(len, cut_at), default=0) <= most


def test_a_batch_is_bounded_in_bytes(house: House) -> None:
    large = [{"id": str(n), "text": "x" * 16_000} for n in range(100)]
    house.targets["crm"] = house.target_of("crm", max_items_per_call=1_000)

    job = house.submitted(large)

    sizes = [len(one) for one in ranges(house, job)]
    assert sum(sizes) == 100
    assert max(sizes) * 16_000 <= MAX_BATCH_BYTES


def test_a_large_job_waits_for_approval_and_then_goes_on() -> None:
    house = House(max_items=3)
    job = house.submitted(keys(4))
    held = house.store.job(job)
    house.work()
    assert (held.state, house.adapter.calls) == (JobState.AWAITING_APPROVAL, [])
    assert held.reason == "4 items are more than the target's max_items of 3"

    house.store.approve(job, Who(by="Ada"))
    house.planner.plan(job)
    house.work_off()

    assert house.state(job) is JobState.COMPLETED


@pytest.mark.parametrize("items", [keys(3), [*keys(3), "k0", "K1"]])
def test_a_job_of_max_items_needs_no_approval(items: list[Item]) -> None:
    house = House(max_items=3)

    job = house.submitted(items)

    assert house.state(job) is JobState.RUNNING


def test_a_declined_job_is_skipped() -> None:
    house = House(max_items=3)
    job = house.submitted(keys(4))

    house.store.decline(job, Who())
    house.work_off()

    assert house.state(job) is JobState.CANCELLED
    assert set(house.told(job).values()) == {"skipped/none"}


def test_a_dry_run_tells_what_would_be_sent(house: House) -> None:
    job = house.submitted(["a", "A", 1.5, "b"], dry_run=True)

    told = house.told(job)

    assert house.state(job) is JobState.COMPLETED
    assert told == {"a": "skipped/none", "1.5": "rejected/none", "b": "skipped/none"}
    assert house.store.job(job).duplicates == 1


def test_a_dry_run_needs_no_approval() -> None:
    house = House(max_items=1)

    job = house.submitted(keys(5), dry_run=True)

    assert house.state(job) is JobState.COMPLETED


def test_a_plan_is_executed_as_it_was_frozen(house: House) -> None:
    plan = house.submitted(["a", 1.5, "A", "b"], dry_run=True)
    job = some_id()

    house.submitter.open_plan(job, plan=plan, requested_by="Ada")
    house.planner.plan(job)
    house.work_off()

    assert house.told(job) == {"a": "deleted/item", "1.5": "rejected/none", "b": "deleted/item"}
    assert [one.position for one in house.outcomes(job)] == [0, 1, 3]


def test_a_plan_is_copied_in_strides(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "ITEMS_A_STRIDE", 2)
    plan = house.submitted(keys(7), dry_run=True)
    job = some_id()
    house.submitter.open_plan(job, plan=plan, requested_by=None)

    house.planner.plan(job)
    house.work_off()

    assert len(house.told(job)) == 7


def test_a_target_that_is_gone_stops_the_job(house: House) -> None:
    job = house.landed(keys(3))
    house.targets.clear()

    house.planner.plan(job)
    house.settler.settle(job)

    assert house.state(job) is JobState.STOPPED
    assert house.store.job(job).reason == "there is no target 'crm' any more"
    assert set(house.told(job).values()) == {"skipped/none"}


@pytest.fixture
def away(house: House, monkeypatch: pytest.MonkeyPatch) -> AwayStore:
    """A store that may be away, and plans of many strides."""
    monkeypatch.setattr(planning, "RANGES_A_STRIDE", 1)
    monkeypatch.setattr(planning, "ITEMS_A_STRIDE", 2)
    store = AwayStore(house.store)
    house.store = store
    return store


@pytest.mark.parametrize("lost_at", ["drop_duplicates", "places", "add_batches", "start"])
def test_an_interrupted_plan_goes_on_where_it_stood(
    house: House, away: AwayStore, lost_at: str
) -> None:
    job = house.landed([*keys(10), "k0"])
    count = [0]

    def be_lost() -> None:
        count[0] += 1
        if count[0] == (2 if lost_at in {"places", "add_batches"} else 1):
            away.be_away(lost_at, 1)

    away.before(lost_at, be_lost)
    with pytest.raises(StoreUnavailable):
        house.planner.plan(job)
    assert house.planner.plan(job) is None  # somebody has the right to plan it

    house.clock.advance(MINUTE)
    house.planner.plan(job)
    house.work_off()

    assert len(house.told(job)) == 10
    assert sorted(house.adapter.deleted.values()) == [1] * 10


def test_a_job_that_is_cancelled_while_it_is_planned_is_not_started(
    house: House, away: AwayStore
) -> None:
    job = house.landed(keys(10))
    cuts = [0]

    def cancel() -> None:
        cuts[0] += 1
        if cuts[0] == 2:
            house.store.cancel(job, Who())

    away.before("add_batches", cancel)

    house.planner.plan(job)
    house.work_off()

    assert house.state(job) is JobState.CANCELLED
    assert set(house.told(job).values()) == {"skipped/none"}
    assert house.adapter.calls == []


def test_a_planner_that_was_overtaken_writes_nothing(house: House, away: AwayStore) -> None:
    job = house.landed(keys(10))

    def overtake() -> None:
        away.before("add_batches", lambda: None)
        house.clock.advance(MINUTE)
        house.planner.plan(job)

    away.before("add_batches", overtake)

    house.planner.plan(job)
    house.work_off()

    assert len(house.told(job)) == 10
    assert sorted(house.adapter.deleted.values()) == [1] * 10


def test_a_job_is_planned_once(house: House) -> None:
    job = house.submitted(keys(3))

    assert house.planner.plan(job) is None
    assert house.planner.plan(some_id()) is None


def test_a_new_limit_changes_what_is_cut_not_what_was_cut(house: House) -> None:
    first = house.submitted(keys(4))
    house.targets["crm"] = house.target_of("crm", max_items_per_call=2)
    second = house.submitted(keys(4, prefix="other"))

    house.work_off()

    assert house.told(first).keys() | house.told(second).keys() == set(house.adapter.deleted)
    assert max(len(call) for call in house.adapter.calls) == 2


def test_a_planner_may_be_late(house: House) -> None:
    job = house.landed(keys(3))
    house.clock.advance(timedelta(days=3))

    house.planner.plan(job)

    assert house.state(job) is JobState.RUNNING
