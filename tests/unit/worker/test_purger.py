"""Standing orders from tick to outcome: a machine with a blade that nobody watches."""

from datetime import timedelta

import pytest

from api_adapters.base import Verdict
from api_adapters.errors import BadQuery
from tests.contract.stores.steps import refusal
from tests.factories import MINUTE, SECOND
from tests.fakes import FindingAdapter, House
from worker.errors import StoreUnavailable
from worker.job import JobId, JobState
from worker.pruner import Pruner
from worker.purge import CatchUp, Overlap, PurgeRun, RunOutcome
from worker.scheduling import Schedule
from worker.store.base import Who

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANN = Who(os_user="ann", by="Ann")


@pytest.fixture
def adapter() -> FindingAdapter:
    adapter = FindingAdapter()
    adapter.pages = [["a", "b"], ["c"]]
    return adapter


@pytest.fixture
def house(adapter: FindingAdapter) -> House:
    """A purge of every hour that was registered just now."""
    house = House(adapter=adapter, allow_query=True)
    house.order()
    assert house.purger.tick() == []
    return house


def tick(house: House, after: timedelta = HOUR) -> list[PurgeRun]:
    """Let time pass, and the clock tick."""
    house.clock.advance(after)
    return house.purger.tick()


def begun(house: House, after: timedelta = HOUR) -> JobId:
    """The job of the run that begins after so long, planned."""
    (run,) = tick(house, after)
    assert run.job is not None
    house.planner.plan(run.job)
    return run.job


def told(house: House, name: str = "old") -> list[str]:
    """What became of each run, newest first."""
    return [one.word for one in house.store.purge_runs(name, limit=99)]


# -- a run ------------------------------------------------------------------------


def test_what_a_purge_finds_is_deleted(house: House, adapter: FindingAdapter) -> None:
    job = begun(house)
    house.work_off()

    assert set(adapter.deleted) == {"a", "b", "c"}
    assert house.store.job(job).requested_by == "purge old"
    assert told(house) == ["completed"]
    assert house.store.purge_succeeded_at("old") is not None


def test_a_query_that_finds_nothing_completes(house: House, adapter: FindingAdapter) -> None:
    adapter.pages = []

    job = begun(house)
    house.work_off()

    assert (house.state(job), house.store.job(job).items) == (JobState.COMPLETED, 0)
    assert house.store.purge_succeeded_at("old") is not None


def test_many_ticks_begin_one_run(house: House) -> None:
    house.clock.advance(HOUR)

    runs = [run for _ in range(5) for run in house.purger.tick()]

    assert len(runs) == len(house.store.jobs(limit=9)) == 1


def test_the_clock_is_noted(house: House) -> None:
    house.clock.advance(3 * SECOND)

    assert house.store.ticked() == 3 * SECOND


def test_a_clock_that_was_off_for_a_day_makes_up_for_the_last_run(house: House) -> None:
    (run,) = tick(house, DAY + 30 * MINUTE)

    assert run.due_at == house.clock() - 30 * MINUTE
    assert tick(house, timedelta()) == []


def test_a_clock_that_was_off_for_a_day_may_leave_it_at_that(house: House) -> None:
    house.order(catch_up=CatchUp.NONE)

    (run,) = tick(house, DAY + 30 * MINUTE)

    assert (run.outcome, run.job) == (RunOutcome.MISSED, None)
    assert len(tick(house, 30 * MINUTE)) == 1
    assert told(house) == ["planning", "missed"]


def test_a_disabled_purge_begins_nothing_and_makes_up_for_nothing(house: House) -> None:
    house.order(enabled=False)
    assert tick(house, 3 * HOUR) == []

    house.order(enabled=True)

    assert tick(house, MINUTE) == []
    assert len(tick(house)) == 1


# -- overlap ----------------------------------------------------------------------


def test_a_run_is_skipped_while_the_last_one_has_not_ended(house: House) -> None:
    begun(house)

    (run,) = tick(house)

    assert run.outcome is RunOutcome.SKIPPED
    house.work_off()
    assert len(tick(house)) == 1


def test_a_run_may_begin_when_the_last_one_has_ended(house: House) -> None:
    house.order(overlap=Overlap.QUEUE)
    begun(house)
    (waiting,) = tick(house)
    house.work_off()

    (run,) = tick(house, SECOND)

    assert (waiting.outcome, run.outcome) == (RunOutcome.WAITING, RunOutcome.BEGUN)
    assert run.due_at == waiting.due_at


# -- brakes -----------------------------------------------------------------------


def test_a_new_purge_waits_for_approval_and_then_runs_by_itself(
    house: House, adapter: FindingAdapter
) -> None:
    house.order(trusted=False)
    first = begun(house)
    assert house.state(first) is JobState.AWAITING_APPROVAL
    assert not adapter.calls

    house.store.approve(first, ANN)
    house.planner.plan(first)
    house.work_off()
    assert set(adapter.deleted) == {"a", "b", "c"}

    adapter.pages = [["d"]]
    assert house.state(begun(house)) is JobState.RUNNING


def test_a_changed_query_waits_for_approval_again(house: House) -> None:
    house.order(trusted=False)
    house.store.approve(begun(house), ANN)
    house.store.cancel(house.open_jobs()[0], ANN)
    house.work_off()

    house.order(trusted=False, query={"keyword": "older"})

    assert house.state(begun(house)) is JobState.AWAITING_APPROVAL


def test_a_declined_purge_asks_again(house: House) -> None:
    house.order(trusted=False)
    house.store.decline(begun(house), ANN)
    house.work_off()

    assert house.state(begun(house)) is JobState.AWAITING_APPROVAL


def test_nobody_is_asked_about_nothing(house: House, adapter: FindingAdapter) -> None:
    house.order(trusted=False)
    adapter.pages = []
    begun(house)
    house.work_off()
    assert told(house) == ["completed"]

    adapter.pages = [["a"]]

    assert house.state(begun(house)) is JobState.AWAITING_APPROVAL


def test_more_than_max_items_wait_for_approval_though_it_is_trusted(house: House) -> None:
    house.order(max_items=2)

    job = begun(house)

    assert house.state(job) is JobState.AWAITING_APPROVAL
    assert house.store.job(job).reason == "3 items are more than the purge's max_items of 2"


def test_max_items_of_a_purge_may_be_more_than_the_targets(adapter: FindingAdapter) -> None:
    house = House(adapter=adapter, allow_query=True, max_items=1)
    house.order(max_items=3)
    house.purger.tick()

    assert house.state(begun(house)) is JobState.RUNNING


def test_an_approval_after_the_configuration_changed_is_refused(
    house: House, adapter: FindingAdapter
) -> None:
    house.order(trusted=False)
    job = begun(house)
    house.order(trusted=False, query={"keyword": "everything"})

    # Whether a clock has seen the change, or only whoever approves.
    with refusal("wrong_state"):
        house.purger.check_approval(house.store.job(job))
    tick(house, MINUTE)
    with refusal("wrong_state"):
        house.store.approve(job, ANN)

    house.work()
    assert not adapter.deleted


def test_an_approval_of_a_purge_that_is_gone_is_refused(house: House) -> None:
    house.order(trusted=False)
    job = begun(house)
    house.purges.clear()

    with refusal("wrong_state"):
        house.purger.check_approval(house.store.job(job))


def test_other_jobs_are_approved_whatever_the_purges_are(house: House) -> None:
    house.purger.check_approval(house.store.job(house.submitted(["a"])))


def test_a_run_that_nobody_approves_is_declined_after_a_week(house: House) -> None:
    house.order(trusted=False)
    job = begun(house)
    house.clock.advance(7 * DAY + SECOND)

    done = Pruner(house.store).prune(Who())
    house.settler.settle(job)

    assert done.declined == (job,)
    assert house.store.job(job).reason == "nobody approved it"
    assert house.state(begun(house)) is JobState.AWAITING_APPROVAL


# -- refusals ---------------------------------------------------------------------


def test_a_target_that_takes_no_queries_refuses_the_run(adapter: FindingAdapter) -> None:
    house = House(adapter=adapter)
    house.order()
    house.purger.tick()

    (run,) = tick(house)

    assert (run.outcome, run.job) == (RunOutcome.REFUSED, None)
    assert "allow_query" in (run.reason or "")
    assert house.store.jobs(limit=9) == []


def test_an_adapter_may_refuse_the_query_of_a_run(
    house: House, adapter: FindingAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(query: object) -> None:
        raise BadQuery("this would find everything")

    monkeypatch.setattr(adapter, "check_query", refuse)

    (run,) = tick(house)

    assert run.outcome is RunOutcome.REFUSED
    assert "this would find everything" in (run.reason or "")


def test_a_purge_that_breaks_keeps_no_other_from_running(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.order("broken", schedule=Schedule(cron="0 0 * * *", timezone="No/Where"))
    house.purges = {name: house.purges[name] for name in ("broken", "old")}

    (run,) = tick(house)

    assert run.purge == "old"


def test_a_store_that_is_away_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def be_away(*_: object, **__: object) -> None:
        raise StoreUnavailable("it does not answer")

    monkeypatch.setattr(house.store, "run_purge", be_away)

    with pytest.raises(StoreUnavailable):
        tick(house)


# -- while it deletes --------------------------------------------------------------


def test_what_is_renewed_while_it_deletes_stays(house: House, adapter: FindingAdapter) -> None:
    job = begun(house)
    adapter.renewed = {"b"}
    house.work_off()

    assert set(adapter.deleted) == {"a", "c"}
    assert house.told(job)["b"] == "denied/item"


def test_what_appears_while_it_deletes_is_for_the_next_run(
    house: House, adapter: FindingAdapter
) -> None:
    begun(house)
    adapter.pages.append(["d"])
    house.work_off()
    assert "d" not in adapter.deleted

    begun(house)
    house.work_off()

    assert "d" in adapter.deleted


# -- by hand ----------------------------------------------------------------------


def test_a_run_by_hand_begins_at_once(house: House, adapter: FindingAdapter) -> None:
    run = house.purger.run_by_hand("old", ANN)
    assert run.job is not None
    house.planner.plan(run.job)
    house.work_off()

    assert run.by_hand
    assert set(adapter.deleted) == {"a", "b", "c"}
    assert len(tick(house)) == 1


def test_runs_by_hand_at_one_moment_are_two_runs(house: House) -> None:
    runs = [house.purger.run_by_hand("old", ANN, dry_run=True) for _ in range(3)]

    assert len({run.job for run in runs}) == 3


def test_a_run_by_hand_waits_for_approval_like_any_other(house: House) -> None:
    house.order(trusted=False)

    run = house.purger.run_by_hand("old", ANN)
    assert run.job is not None
    house.planner.plan(run.job)

    assert house.state(run.job) is JobState.AWAITING_APPROVAL


def test_a_run_by_hand_is_refused_while_another_has_not_ended(house: House) -> None:
    begun(house)

    with refusal("wrong_state"):
        house.purger.run_by_hand("old", ANN)
    assert house.purger.run_by_hand("old", ANN, dry_run=True).job


def test_a_dry_run_by_hand_sends_nothing(house: House, adapter: FindingAdapter) -> None:
    house.order(trusted=False)
    run = house.purger.run_by_hand("old", ANN, dry_run=True)
    assert run.job is not None
    house.planner.plan(run.job)

    assert house.state(run.job) is JobState.COMPLETED
    assert house.store.status(run.job).tally[Verdict.SKIPPED] == 3
    assert not adapter.calls
    assert house.store.purge_succeeded_at("old") is None


def test_a_run_by_hand_of_a_refused_query_is_refused(adapter: FindingAdapter) -> None:
    house = House(adapter=adapter)
    house.order()

    with refusal("query_not_allowed"):
        house.purger.run_by_hand("old", ANN)


def test_a_purge_that_is_registered_by_hand_starts_then(house: House) -> None:
    house.order("new")

    house.purger.run_by_hand("new", ANN, dry_run=True)

    assert house.store.purge("new").registered_at == house.clock()
