"""The finder: frozen first, brakes next, deleted last; and finds that are interrupted."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api_adapters.base import Reply, Verdict
from api_adapters.errors import BadQuery, Hopeless, Paced, Transient
from tests.contract.stores.makers import make_memory, make_sqlite
from tests.factories import MINUTE, SECOND, Clock, keys, some_id
from tests.fakes import AwayStore, FindingAdapter, House, found, lost, told_to_wait
from worker import finder as finding
from worker.errors import RefusedRequest
from worker.job import JobId, JobState
from worker.requests import Submit
from worker.store.base import Who

QUERY = {"keyword": "old"}
FAILED = found(Verdict.FAILED, code="500")


@pytest.fixture(params=[make_memory, make_sqlite], ids=["memory", "sqlite"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    clock = Clock()
    store = request.param(clock)
    house = House(clock, store=store, adapter=FindingAdapter(), allow_query=True)
    yield house
    store.close()


def adapter_of(house: House) -> FindingAdapter:
    assert isinstance(house.adapter, FindingAdapter)
    return house.adapter


def asked(house: House, *pages: list[Any], query: Any = QUERY, **named: Any) -> JobId:
    """A job by query; the backend lists these pages."""
    adapter_of(house).pages = list(pages)
    request = Submit(job=some_id(), target="crm", query=query, **named)
    return house.submitter.submit(request).job.id


def planned(house: House, *pages: list[Any], **named: Any) -> JobId:
    job = asked(house, *pages, **named)
    house.planner.plan(job)
    return job


def test_what_a_query_finds_is_deleted(house: House) -> None:
    job = planned(house, ["a", "b"], ["c", "A"], [])

    house.work_off()

    assert house.told(job) == dict.fromkeys(["a", "b", "c"], "deleted/item")
    status = house.store.status(job).job
    assert (status.items, status.duplicates, status.state) == (3, 1, JobState.COMPLETED)


def test_the_items_of_a_query_are_unknown_to_whoever_submits_it(house: House) -> None:
    job = some_id()

    answer = house.desk.submit({"job": job, "target": "crm", "query": QUERY})

    assert answer.body == {"job": job, "items": None, "duplicates": 0}
    assert answer.plan == (job,)
    assert adapter_of(house).pages_read == 0


def test_the_same_query_with_the_same_id_is_the_same_job(house: House) -> None:
    job = planned(house, ["a"])

    again = house.desk.submit({"job": job, "target": "crm", "query": QUERY})

    assert again.body == {"job": job, "items": 1, "duplicates": 0}
    with pytest.raises(RefusedRequest, match="other content"):
        house.desk.submit({"job": job, "target": "crm", "query": {"keyword": "new"}})


def test_a_query_that_finds_nothing_completes(house: House) -> None:
    job = planned(house)
    house.settler.settle(job)

    assert house.state(job) is JobState.COMPLETED
    assert house.store.status(job).job.items == 0


def test_a_query_is_frozen_once_and_repeated_with_every_call(house: House) -> None:
    adapter_of(house).renewed = {"b"}
    job = planned(house, keys(12), ["b"])

    house.work_off()

    told = house.told(job)
    assert told["b"] == "denied/item"
    assert sum(one == "deleted/item" for one in told.values()) == 12
    assert adapter_of(house).repeated == [{**QUERY, "moment": 1}] * 2


def test_calls_are_shared_by_those_alone_who_ask_the_same(house: House) -> None:
    given = house.submitted(["x"])
    first = planned(house, ["a"])
    second = planned(house, ["b"])

    house.work_off()

    assert sorted(map(str, adapter_of(house).calls)) == ["['a']", "['b']", "['x']"]
    assert all(house.state(job) is JobState.COMPLETED for job in (given, first, second))
    assert {str(one) for one in adapter_of(house).repeated} == {
        "None",
        str({**QUERY, "moment": 1}),
        str({**QUERY, "moment": 2}),
    }


def test_a_dry_run_finds_and_its_plan_is_executed_as_it_was_frozen(house: House) -> None:
    plan = planned(house, ["a", "b"], dry_run=True)
    adapter_of(house).pages = [["c"]]
    job = some_id()
    house.submitter.open_plan(job, plan=plan, requested_by=None)
    house.planner.plan(job)

    house.work_off()

    assert set(house.told(plan).values()) == {"skipped/none"}
    assert house.told(job) == dict.fromkeys(["a", "b"], "deleted/item")
    assert adapter_of(house).repeated == [{**QUERY, "moment": 1}]


def test_many_found_items_wait_for_approval_unasked() -> None:
    house = House(adapter=FindingAdapter(), allow_query=True)
    job = planned(house, keys(10_001))
    assert house.state(job) is JobState.AWAITING_APPROVAL

    house.store.approve(job, Who())
    adapter_of(house).pages = [["something else"]]
    house.planner.plan(job)
    house.work_off()

    assert house.store.status(job).tally[Verdict.DELETED] == 10_001


def test_a_job_may_want_to_be_looked_at_however_small(house: House) -> None:
    adapter_of(house).pages = [["a"]]
    request = Submit(job=some_id(), target="crm", query=QUERY)
    job = house.submitter.submit(request, needs_approval=True).job.id

    held = house.planner.plan(job)

    assert held is not None
    assert (held.state, held.items) == (JobState.AWAITING_APPROVAL, 1)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({}, "query_refused"),
        ({"a": float("nan")}, "query_refused"),
        ({"a": "x" * 20_000}, "query_refused"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused(house: House, query: Any, code: str) -> None:
    with pytest.raises(RefusedRequest) as refused:
        asked(house, query=query)

    assert refused.value.code == code
    assert house.store.jobs(limit=10) == []


def test_a_query_needs_leave(house: House) -> None:
    house.targets["crm"] = house.target_of("crm")

    with pytest.raises(RefusedRequest) as refused:
        asked(house)

    assert refused.value.code == "query_not_allowed"


def test_leave_may_be_taken_back_before_it_is_asked(house: House) -> None:
    job = asked(house, ["a"])
    house.targets["crm"] = house.target_of("crm")

    house.planner.plan(job)
    house.work_off()

    assert house.state(job) is JobState.STOPPED
    assert adapter_of(house).pages_read == 0


# -- faults between two pages ------------------------------------------------------


def test_a_page_is_read_again_after_a_fault_and_after_a_wait(house: House) -> None:
    adapter_of(house).page_faults.extend(
        [lost(), told_to_wait(30), Paced("not yet", wait=timedelta(seconds=90)), lost()]
    )
    began = house.clock.moment

    job = planned(house, ["a"], ["b"])
    house.work_off()

    assert adapter_of(house).pages_read == 2
    assert set(house.told(job)) == {"a", "b"}
    assert house.clock.moment - began > timedelta(seconds=120)
    assert max(house.pauses) <= 1


def test_a_find_that_is_told_to_wait_lets_the_whole_target_rest(house: House) -> None:
    rests: list[Any] = []
    adapter_of(house).page_faults.extend([told_to_wait(30)])
    planner = house.planner
    note = house.store.target_note
    job = asked(house, ["a"])
    sleep = house.sleep

    def spy(seconds: float) -> None:
        rests.append(note("crm").rests_for)
        sleep(seconds)

    planner._finder._sleep = spy  # type: ignore[attr-defined]
    planner.plan(job)

    assert rests[0] == timedelta(seconds=30)


def test_a_page_that_cannot_be_read_stops_the_job_with_the_reason(house: House) -> None:
    adapter_of(house).page_faults.extend([lost()] * 5)

    job = planned(house, ["a"])
    house.work_off()

    status = house.store.status(job)
    assert status.job.state is JobState.STOPPED
    assert status.job.reason == "its query could not be answered: no answer"


def test_what_was_found_of_a_stopped_job_is_skipped(house: House) -> None:
    adapter_of(house).page_faults.extend([lambda: None, Hopeless("no right to list")])

    job = planned(house, keys(finding.ITEMS_A_STRIDE), ["b"])
    house.work_off()

    status = house.store.status(job)
    assert (status.job.state, status.job.items) == (JobState.STOPPED, finding.ITEMS_A_STRIDE)
    assert status.tally[Verdict.SKIPPED] == finding.ITEMS_A_STRIDE


@pytest.mark.parametrize("fault", [BadQuery("unknown field"), ValueError("a secret")])
def test_a_query_that_the_backend_does_not_take_stops_the_job(
    house: House, fault: Exception
) -> None:
    adapter_of(house).page_faults.append(fault)

    job = planned(house, ["a"])

    reason = house.store.job(job).reason
    assert house.state(job) is JobState.CANCELLING
    assert reason is not None
    assert "could not be answered" in reason
    assert "secret" not in reason


def test_a_closed_target_is_asked_again_until_it_lets_in(house: House) -> None:
    closed = Hopeless("the token is refused", closes_target=True)
    adapter_of(house).page_faults.extend([closed, closed])

    job = planned(house, ["a"])
    house.work_off()

    assert house.told(job) == {"a": "deleted/item"}
    assert house.store.target_note("crm").closed_reason is None


def test_a_target_that_stays_closed_stops_the_job(house: House) -> None:
    adapter_of(house).page_faults.extend([Hopeless("no token", closes_target=True)] * 100)

    job = planned(house, ["a"])
    house.work_off()

    assert house.state(job) is JobState.STOPPED
    assert len(adapter_of(house).page_faults) > 70


# -- finds that are taken over -------------------------------------------------------


def test_a_find_that_is_taken_over_begins_again_with_the_query_as_it_was_frozen(
    house: House,
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    adapter_of(house).page_faults.extend([lambda: None, die])
    job = asked(house, keys(finding.ITEMS_A_STRIDE + 3, prefix="old"), ["b"])
    with pytest.raises(KeyboardInterrupt):
        house.planner.plan(job)
    assert house.planner.plan(job) is None
    house.clock.advance(2 * MINUTE)
    adapter_of(house).pages = [["a"], ["b"]]

    house.planner.plan(job)
    house.work_off()

    assert house.told(job) == dict.fromkeys(["a", "b"], "deleted/item")
    assert house.store.status(job).job.duplicates == 0
    assert adapter_of(house).freezes == 1


def test_a_find_that_was_taken_over_lands_nothing_more(house: House) -> None:
    rival = house.planner

    def be_slow() -> None:
        house.clock.advance(10 * MINUTE)
        rival.plan(job)

    adapter_of(house).page_faults.extend([be_slow])
    job = asked(house, ["a"], ["b"])

    house.planner.plan(job)
    house.work_off()

    assert set(house.told(job)) == {"a", "b"}
    assert house.store.status(job).job.items == 2


def test_a_find_ends_when_its_job_is_cancelled(house: House) -> None:
    def cancel() -> None:
        house.store.cancel(job, Who())
        house.clock.advance(10 * SECOND)

    adapter_of(house).page_faults.extend([lambda: None, cancel, lambda: None])
    job = asked(house, ["a"], ["b"], ["c"])

    house.planner.plan(job)
    house.work_off()

    assert house.state(job) is JobState.CANCELLED
    assert adapter_of(house).calls == []


def test_a_worker_that_ends_leaves_its_find_to_another_at_once(house: House) -> None:
    def end() -> None:
        house.is_ending = True

    adapter_of(house).page_faults.append(end)
    job = asked(house, ["a"], ["b"])
    house.planner.plan(job)
    house.is_ending = False

    house.planner.plan(job)
    house.work_off()

    assert set(house.told(job)) == {"a", "b"}


def test_a_find_goes_on_when_the_store_comes_back(house: House) -> None:
    away = AwayStore(house.store)
    house.store = away
    house.executor = house.make_executor()
    job = asked(house, ["a"], ["b"])
    for method in ("land_found", "end_find", "target_note", "clear_found"):
        away.be_away(method, 3)

    house.planner.plan(job)
    house.work_off()

    assert set(house.told(job)) == {"a", "b"}


def test_a_worker_with_another_target_leaves_the_find_to_its_like(house: House) -> None:
    job = asked(house, ["a"])
    stranger = House(house.clock, store=house.store, adapter=FindingAdapter(), allow_query=True)
    own = house.targets["crm"]
    other = own.settings.model_copy(update={"adapter": "another"})
    stranger.targets["crm"] = replace(own, settings=other)

    assert stranger.planner.plan(job) is None
    house.planner.plan(job)
    house.work_off()

    assert house.told(job) == {"a": "deleted/item"}


def test_a_find_that_nobody_can_end_is_given_up(house: House) -> None:
    job = asked(house, ["a"])
    for _ in range(finding.MOST_FINDS):
        house.store.begin_planning(job, holder="w", lasting=MINUTE)
        house.store.begin_find(job, holder="w")
    house.store.give_up_planning(job, holder="w")

    house.planner.plan(job)
    house.work_off()

    assert house.state(job) is JobState.STOPPED


# -- how long what was found is good -------------------------------------------------


class Forgetful(FindingAdapter):
    """Cannot repeat the condition."""

    repeats_query = False


@pytest.fixture
def forgetful() -> Iterator[House]:
    clock = Clock()
    store = make_sqlite(clock)
    yield House(clock, store=store, adapter=Forgetful(), allow_query=True, max_items=1)
    store.close()


def test_a_plan_is_good_for_a_day(forgetful: House) -> None:
    plan = planned(forgetful, ["a", "b"], dry_run=True)
    forgetful.clock.advance(timedelta(hours=25))

    with pytest.raises(RefusedRequest, match="found too long ago"):
        forgetful.submitter.open_plan(some_id(), plan=plan, requested_by=None)


def test_what_waited_a_day_for_approval_is_not_deleted(forgetful: House) -> None:
    job = planned(forgetful, ["a", "b"])
    forgetful.clock.advance(timedelta(hours=25))
    valid_for = forgetful.targets["crm"].found_valid_for

    with pytest.raises(RefusedRequest, match="found too long ago"):
        forgetful.store.approve(job, Who(), valid_for=valid_for)

    assert valid_for == timedelta(hours=24)
    assert forgetful.state(job) is JobState.AWAITING_APPROVAL


def test_where_the_condition_is_repeated_a_plan_is_good_for_longer(house: House) -> None:
    plan = planned(house, ["a"], dry_run=True)
    house.clock.advance(timedelta(days=3))

    job = house.submitter.open_plan(some_id(), plan=plan, requested_by=None)

    assert job.query == QUERY


def test_a_retry_of_what_was_found_repeats_the_query(house: House) -> None:
    adapter_of(house).will(lambda items: Reply(dict.fromkeys(items, FAILED)))
    job = planned(house, ["a", "b"])
    house.work_off()

    child = house.submitter.retry(job).id
    house.planner.plan(child)
    house.work_off()

    assert house.told(child) == dict.fromkeys(["a", "b"], "deleted/item")
    assert adapter_of(house).repeated == [{**QUERY, "moment": 1}] * 2


def test_a_fault_that_is_no_fault_of_the_page_is_not_repeated(house: House) -> None:
    adapter_of(house).page_faults.append(Transient("broken", may_have_run=False))
    adapter_of(house).page_faults.append(Hopeless("quota"))

    job = planned(house, ["a"])

    assert house.state(job) is JobState.CANCELLING
    assert adapter_of(house).pages_read == 0
