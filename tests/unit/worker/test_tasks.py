"""The tasks, without a broker: what each answers and posts, and that a look is enough."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event, Semaphore, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from tests.factories import MINUTE, SECOND, keys, some_id
from tests.fakes import AwayStore, FindingAdapter, House, RungBells
from worker.assembly import Deployment
from worker.deleting import Slice
from worker.dispatcher import PromptDispatcher
from worker.duty import Duty, current
from worker.errors import DoesNotAddUp
from worker.job import JobId, JobState
from worker.quiet import UNREADABLE
from worker.sections import PurgeSettings
from worker.slots import Slot
from worker.store.base import DECLINED_FOR, Look, Who


class Office:
    """The tasks of one process, whose messages are kept until they are delivered."""

    def __init__(self, house: House) -> None:
        from worker import tasks

        self.tasks = tasks
        self.house = house
        self.posted: list[tuple[str, dict[str, str]]] = []

    def post(self, task: Any, **arguments: str) -> None:
        """Keep a nudge."""
        self.posted.append((task.name, arguments))

    def deliver(self) -> None:
        """Deliver what was posted so far."""
        posted, self.posted = self.posted, []
        for name, arguments in posted:
            self.tasks.app.tasks[name](**arguments)

    def look(self) -> None:
        """Look at the store and do what is found."""
        found = self.house.store.look(every=timedelta(seconds=2))
        if found is not None:
            self.tasks.act(found)

    def names(self) -> list[str]:
        """What was posted."""
        return [name for name, _ in self.posted]


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=2)


@pytest.fixture
def office(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Office]:
    # Celery asks for its settings when the first task is looked at.
    monkeypatch.setenv("DELETIONS_CONFIG", str(tmp_path / "deletions.toml"))
    office = Office(house)
    configuration = SimpleNamespace(
        targets=house.targets, notify={}, retention_of=lambda _: None, store=None, purges={}
    )
    deployment = Deployment(None, configuration, house.store, house.adapters)
    duty = Duty(deployment, threads=4, bells=RungBells())
    duty.executor = house.executor
    monkeypatch.setattr(current, "_duty", duty)
    monkeypatch.setattr(current, "_pid", os.getpid())
    monkeypatch.setattr(office.tasks, "post", office.post)
    yield office
    house.store.close()


def body(shown: Any) -> Any:
    return shown.__json__()


# -- public tasks -------------------------------------------------------------------


def test_a_refusal_is_the_result(office: Office) -> None:
    answer = office.tasks.submit(job=some_id(), target="nobody", items=["somebody"])

    assert set(body(answer)["error"]) == {"code", "message", "data"}
    assert body(answer)["error"]["code"] == "unknown_target"
    assert repr(answer) == "refused: unknown_target"


def test_positional_arguments_are_refused(office: Office) -> None:
    assert body(office.tasks.submit("crm", ["a"]))["error"]["code"] == "invalid_message"


def test_an_argument_named_self_is_refused_like_any_unknown_one(office: Office) -> None:
    answer = body(office.tasks.status.run(job=some_id(), self="somebody"))

    assert answer["error"]["code"] == "invalid_message"


def test_a_store_that_is_away_is_told(office: Office, house: House) -> None:
    away = AwayStore(house.store)
    away.be_away("submit", 1)
    object.__setattr__(office.tasks.duty().deployment, "store", away)

    answer = office.tasks.submit(job=some_id(), target="crm", items=["a"])

    assert body(answer)["error"]["code"] == "store_unavailable"


def test_an_unreadable_message_is_answered_with_its_refusal(office: Office) -> None:
    told = {"code": "too_large", "message": "a message is at most 4194304 bytes"}

    answer = office.tasks.submit(**{UNREADABLE: told})

    assert body(answer)["error"] == {**told, "data": {}}


@pytest.mark.parametrize("forged", ["somebody", {"code": "somebody", "message": "x"}, {"code": 1}])
def test_nobody_can_make_up_a_refusal(office: Office, forged: Any) -> None:
    answer = office.tasks.submit(**{UNREADABLE: forged, "job": some_id(), "target": "crm"})

    assert body(answer)["error"]["code"] == "invalid_message"
    assert "somebody" not in repr(answer)


def test_what_nobody_expected_is_told_without_its_words(
    office: Office, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise KeyError("somebody")

    away = AwayStore(house.store)
    away.before("submit", broken)
    object.__setattr__(office.tasks.duty().deployment, "store", away)

    with pytest.raises(RuntimeError, match=r"deletions.submit broke: KeyError") as raised:
        office.tasks.submit(job=some_id(), target="crm", items=["a"])

    assert raised.value.__suppress_context__
    assert "somebody" not in caplog.text


def test_what_follows_never_costs_the_answer(office: Office, house: House) -> None:
    away = AwayStore(house.store)
    away.be_away("may_ring", 1)
    object.__setattr__(office.tasks.duty().deployment, "store", away)

    answer = office.tasks.submit(job=some_id(), target="crm", items=["a"])

    assert body(answer)["items"] == 1


def test_a_submission_rings_its_target(office: Office) -> None:
    office.tasks.submit(job=some_id(), target="crm", items=["a"])

    assert office.posted == [("deletions.execute", {"target": "crm"})]


def test_a_sealed_job_is_planned_by_message(office: Office) -> None:
    job = some_id()
    office.tasks.open_(job=job, target="crm", chunk_items=2)
    office.tasks.append(job=job, chunk=0, items=["a"])
    office.tasks.seal(job=job, chunks=1)

    assert office.posted == [("deletions.plan", {"job": job})]


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_a_command_answers_with_the_status(office: Office, house: House, command: str) -> None:
    job = house.submitted(keys(2))

    answer = body(getattr(office.tasks, command)(job=job))

    assert answer["id"] == job
    if command == "cancel":
        assert house.state(job) is JobState.CANCELLED


# -- the clock ----------------------------------------------------------------------


def test_a_tick_posts_the_plan_of_what_it_began(office: Office, house: House) -> None:
    settings = {"target": "crm", "query": {"keyword": "old"}, "every": "1h", "trusted": True}
    purges = {"old": PurgeSettings.model_validate(settings)}
    house.adapter = FindingAdapter()
    configuration = office.tasks.duty().deployment.configuration
    configuration.purges = purges
    configuration.targets["crm"] = house.target_of("crm", allow_query=True)
    office.tasks.app.tasks["deletions.purge"]()
    house.clock.advance(timedelta(hours=1))

    shown = office.tasks.app.tasks["deletions.purge"]()

    (run,) = house.store.purge_runs("old", limit=9)
    assert office.posted == [("deletions.plan", {"job": run.run.job})]
    assert repr(shown) == "purge=old begun"
    assert house.store.ticked() == timedelta()


def test_pruning_closes_what_nobody_approved(office: Office, house: House) -> None:
    job = house.submitted(["a"])
    held = house.landed(["b"])
    house.store.hold(held, reason="too many")
    house.clock.advance(timedelta(days=8))

    shown = office.tasks.app.tasks["deletions.prune"]()

    assert repr(shown) == "jobs=0 declined=1"
    assert (house.state(held), house.state(job)) == (JobState.CANCELLED, JobState.RUNNING)


def test_the_clock_sends_what_a_worker_understands_and_what_grows_old(office: Office) -> None:
    schedule = office.tasks.app.conf.beat_schedule

    assert {one["task"] for one in schedule.values()} == {"deletions.purge", "deletions.prune"}
    assert all(one["task"] in office.tasks.app.tasks for one in schedule.values())
    assert all(one["options"]["expires"] for one in schedule.values())


# -- nudges -----------------------------------------------------------------------------


def test_the_last_record_settles_the_job(office: Office, house: House) -> None:
    job = house.submitted(keys(3))

    shown = office.tasks.execute("crm")

    assert house.state(job) is JobState.COMPLETED
    assert office.names() == ["deletions.settle"]
    assert repr(shown) == f"items=3 calls=2 jobs=1 job={job} items=3"
    assert body(shown) is None


def test_a_settled_job_shows_its_tally(office: Office, house: House) -> None:
    job = house.submitted(keys(3))
    house.work_off()

    assert repr(office.tasks.settle(job)) == f"completed deleted=3 job={job}"


def test_a_plan_rings(office: Office, house: House) -> None:
    job = house.landed(keys(3))

    office.tasks.plan(job)

    assert office.names() == ["deletions.execute"]
    assert "nothing to plan" in repr(office.tasks.plan(job))


def test_a_job_that_was_settled_is_shown_as_it_was_told(office: Office, house: House) -> None:
    job = house.submitted(keys(3))

    office.tasks.execute("crm")

    (settled,) = [told for name, told in office.posted if name == "deletions.settle"]
    assert settled == {"job": job, "tally": "completed deleted=3"}
    assert repr(office.tasks.settle(**settled)) == f"completed deleted=3 job={job}"


def test_a_process_that_hears_messages_shows_a_settled_job_by_itself(
    office: Office, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = PromptDispatcher(enabled=False, app=office.tasks.app)
    shown: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        dispatcher,
        "show_done",
        lambda name, *, arguments, result: shown.append((name, arguments, result)),
    )
    consumer = SimpleNamespace(event_dispatcher=dispatcher)
    monkeypatch.setattr(office.tasks, "_hearing", [consumer])
    job = house.submitted(keys(3))

    office.tasks.execute("crm")

    told = f"completed deleted=3 job={job}"
    assert shown == [("deletions.settle", f"job='{job}'", told)]
    assert office.names() == []


@pytest.mark.parametrize("tally", [7, ["k1"], "k1@example.com", "completed k1=secret", "a" * 999])
def test_nothing_else_is_shown_of_what_a_sender_writes_into_a_tally(
    office: Office, house: House, tally: object
) -> None:
    job = house.submitted(keys(3))
    house.work_off()

    assert repr(office.tasks.settle(job, tally)) == f"completed deleted=3 job={job}"


@pytest.mark.parametrize("name", ["plan", "settle"])
def test_a_nudge_for_a_job_that_is_not_there_is_harmless(office: Office, name: str) -> None:
    getattr(office.tasks, name)(some_id())

    assert office.posted == []


def test_a_nudge_whose_store_is_away_is_left_to_the_look(
    office: Office, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    away = AwayStore(house.store)
    away.be_away("claim_many", 1)
    house.store = away
    office.tasks.duty().executor = house.make_executor()

    with caplog.at_level(logging.WARNING):
        shown = office.tasks.execute("crm")

    assert repr(shown) == "not done: StoreUnavailable"
    assert "nudge.failed" in caplog.text


def test_a_bell_that_found_no_slot_is_rung_again_when_a_slice_ends(
    office: Office, house: House
) -> None:
    slots = office.tasks.duty().slots
    with slots.enter("one"), slots.enter("two"):
        assert "no slot is free" in repr(office.tasks.execute("crm", passed=3))
    house.targets["one"] = house.target_of("one")

    office.tasks.execute("one")

    assert office.posted == [("deletions.execute", {"target": "crm"})]


def test_a_bell_for_which_enough_are_at_work_is_left_to_the_next_claim(
    office: Office, house: House
) -> None:
    house.submitted(keys(3))
    assert house.store.may_ring("crm")
    with office.tasks.duty().slots.work("crm") as place:
        assert isinstance(place, Slot)
        place.goes_on(calls=1, lasting=1, working=9)

        shown = office.tasks.execute("crm", passed=1)

    assert repr(shown) == "target=crm enough are at work here"
    assert office.posted == []
    assert house.adapter.calls == []
    assert not house.store.may_ring("crm")
    house.clock.advance(DECLINED_FOR + timedelta(milliseconds=1))
    assert house.store.may_ring("crm")


def test_a_slice_counts_what_its_crew_did(office: Office, house: House) -> None:
    house.adapter.on_call = lambda: house.clock.advance(SECOND)
    house.submitted(["slow"])
    house.work_off()
    job = house.submitted(keys(12))

    shown = office.tasks.execute("crm")

    assert f"items=12 calls=6 jobs=1 job={job}" in repr(shown)
    assert house.state(job) is JobState.COMPLETED


def test_a_bell_for_which_enough_are_at_work_is_passed_on_once(
    office: Office, house: House
) -> None:
    house.submitted(keys(3))
    assert house.store.may_ring("crm")
    with office.tasks.duty().slots.work("crm") as place:
        assert isinstance(place, Slot)
        place.goes_on(calls=1, lasting=1, working=9)

        shown = office.tasks.execute("crm")

    assert repr(shown) == "target=crm enough are at work here, passed on"
    assert office.posted == [("deletions.execute", {"target": "crm", "passed": 1})]
    house.clock.advance(DECLINED_FOR + timedelta(milliseconds=1))
    assert not house.store.may_ring("crm")


def test_a_bell_that_found_no_slot_is_passed_on_three_times(office: Office, house: House) -> None:
    slots = office.tasks.duty().slots
    with slots.enter("one"), slots.enter("two"):
        told = [repr(office.tasks.execute("crm", passed=times)) for times in (0, 1, 2, 3)]

    assert [one.endswith("passed on") for one in told] == [True, True, True, False]
    assert [told["passed"] for _, told in office.posted] == [1, 2, 3]


@pytest.mark.parametrize("passed", ["1", None, -5])
def test_how_often_a_bell_was_passed_on_may_be_anything(office: Office, passed: Any) -> None:
    slots = office.tasks.duty().slots
    with slots.enter("one"), slots.enter("two"):
        assert "no slot is free" in repr(office.tasks.execute("crm", passed=passed))

    assert office.posted == [("deletions.execute", {"target": "crm", "passed": 1})]


def test_a_bell_that_is_declined_while_a_slice_ends_is_rung_again(
    office: Office, house: House
) -> None:
    class Ending:
        """The last moments of a slice, after it has asked whether to ring."""

        def run(self, name: str, **_: Any) -> Slice:
            assert "enough are at work" in repr(office.tasks.execute(name, passed=1))
            return Slice()

        def looks_soon(self, _: str) -> bool:
            return False

    with office.tasks.duty().slots.work("crm") as place:
        assert isinstance(place, Slot)
        place.goes_on(calls=1, lasting=1, working=9)
    house.submitted(keys(3))
    assert house.store.may_ring("crm")
    office.tasks.duty().executor = Ending()

    office.tasks.execute("crm")

    assert office.posted == [("deletions.execute", {"target": "crm"})]


def test_nobody_is_rung_for_what_a_slice_of_the_same_process_waits_for(
    office: Office, house: House
) -> None:
    class Waiting:
        """A slice that waits for more, or does not."""

        waits = True

        def looks_soon(self, _: str) -> bool:
            return self.waits

    office.tasks.duty().executor = waiting = Waiting()
    house.submitted(keys(1))

    office.tasks.ring_if_due(["crm"])
    assert office.posted == []

    waiting.waits = False
    office.tasks.ring_if_due(["crm"])
    assert office.posted == [("deletions.execute", {"target": "crm"})]


def test_of_one_process_two_chunks_land_at_a_time_and_nobody_waits_for_long(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = Semaphore(0), Event()

    class Slow:
        """A desk that takes its time."""

        def append(self, _: Any) -> None:
            begun.release()
            assert may_end.wait(20)

    monkeypatch.setattr(office.tasks, "LANDING_WAITS", 0.2)
    threads = [Thread(target=office.tasks.land, args=(Slow(), {})) for _ in range(3)]
    for thread in threads:
        thread.start()

    assert [begun.acquire(timeout=10) for _ in range(2)] == [True, True]
    assert not begun.acquire(timeout=0.05)
    assert begun.acquire(timeout=10)
    may_end.set()
    for thread in threads:
        thread.join(20)
    assert office.tasks._landing.acquire(timeout=1)
    office.tasks._landing.release()


@pytest.mark.parametrize("target", ["nobody", ["crm"], None, {"crm": 1}])
def test_a_bell_of_no_target_is_not_heard(office: Office, target: Any) -> None:
    assert repr(office.tasks.execute(target)) == "there is no such target"
    assert "nobody" not in office.tasks.duty().slots._heard


def test_a_slice_ends_when_its_process_does(office: Office, house: House) -> None:
    job = house.submitted(keys(3))
    office.tasks.duty().is_ending.set()

    office.tasks.execute("crm")

    assert house.adapter.calls == []
    assert house.store.status(job).batches["ready"] == 2


def test_one_job_that_does_not_add_up_keeps_no_other_open(
    office: Office, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = house.submitted(["a"]), house.submitted(["b"])
    house.work()
    settled: list[JobId] = []

    class Doubting(AwayStore):
        def settle_done(self, jobs: Sequence[JobId]) -> Any:
            raise DoesNotAddUp("1 is not 2")

        def settle(self, job: JobId) -> Any:
            if job == wrong:
                raise DoesNotAddUp("1 is not 2")
            settled.append(job)
            return house.store.settle(job)

    object.__setattr__(office.tasks.duty().deployment, "store", Doubting(house.store))

    office.tasks.act(Look(settle=(wrong, right), has_lost_leases=True))

    assert settled == [right]
    assert "job.unsettled" in caplog.text


def test_a_broker_that_is_away_costs_a_nudge_and_nothing_else(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()

    class Unreached:
        name = "deletions.execute"

        def apply_async(self, **_: Any) -> None:
            raise OperationalError("away")

    office.tasks.post(Unreached(), target="crm")


# -- liveness ------------------------------------------------------------------------------


def nothing(_: House, __: JobId) -> None:
    """Nobody has to do anything."""


def approve(house: House, job: JobId) -> None:
    house.store.approve(job, Who())


def decline(house: House, job: JobId) -> None:
    house.store.decline(job, Who())


def resume(house: House, job: JobId) -> None:
    house.store.resume(job, Who())


def opened(house: House) -> JobId:
    """A job whose sender went away."""
    job = some_id()
    house.desk.open({"job": job, "target": "crm", "chunk_items": 10})
    house.desk.append({"job": job, "chunk": 0, "items": keys(3)})
    return job


def planning_was_lost(house: House) -> JobId:
    job = house.landed(keys(5))
    house.store.begin_planning(job, holder="lost", lasting=MINUTE)
    return job


def held(house: House) -> JobId:
    house.targets["crm"] = house.target_of("crm", max_items=1, max_items_per_call=2)
    return house.submitted(keys(5))


def paused(house: House) -> JobId:
    job = house.submitted(keys(5))
    house.store.pause(job, Who())
    return job


def cancelling(house: House) -> JobId:
    job = house.submitted(keys(5))
    house.store.cancel(job, Who())
    return job


def worker_was_lost(house: House) -> JobId:
    job = house.submitted(keys(5))
    claim_and_vanish(house)
    return job


def cancelled_while_a_worker_was_lost(house: House) -> JobId:
    job = worker_was_lost(house)
    house.store.cancel(job, Who())
    return job


def decided_but_not_settled(house: House) -> JobId:
    job = house.submitted(keys(5))
    house.work()
    return job


def claim_and_vanish(house: House) -> None:
    from tests.factories import appetite

    house.store.claim(
        "crm",
        fingerprint=house.targets["crm"].fingerprint,
        holder="lost",
        lasting=MINUTE,
        appetite=lambda _: appetite(call_items=2, calls=2),
    )


BEGINNINGS: list[tuple[Callable[[House], JobId], JobState, Any, JobState]] = [
    (opened, JobState.OPEN, nothing, JobState.CANCELLED),
    (lambda house: house.landed(keys(5)), JobState.PLANNING, nothing, JobState.COMPLETED),
    (lambda house: house.landed([]), JobState.PLANNING, nothing, JobState.COMPLETED),
    (lambda house: house.landed([1.5]), JobState.PLANNING, nothing, JobState.COMPLETED),
    (planning_was_lost, JobState.PLANNING, nothing, JobState.COMPLETED),
    (held, JobState.AWAITING_APPROVAL, approve, JobState.COMPLETED),
    (held, JobState.AWAITING_APPROVAL, decline, JobState.CANCELLED),
    (lambda house: house.submitted(keys(5)), JobState.RUNNING, nothing, JobState.COMPLETED),
    (worker_was_lost, JobState.RUNNING, nothing, JobState.COMPLETED),
    (decided_but_not_settled, JobState.RUNNING, nothing, JobState.COMPLETED),
    (paused, JobState.PAUSED, resume, JobState.COMPLETED),
    (cancelling, JobState.CANCELLING, nothing, JobState.CANCELLED),
    (cancelled_while_a_worker_was_lost, JobState.CANCELLING, nothing, JobState.CANCELLED),
]


@pytest.mark.parametrize(("begin", "state", "decide", "end"), BEGINNINGS)
@pytest.mark.parametrize("loses_every", [1_000, 2])
def test_a_look_alone_brings_a_job_from_any_state_to_its_end(
    office: Office,
    house: House,
    *,
    begin: Callable[[House], JobId],
    state: JobState,
    decide: Callable[[House, JobId], None],
    end: JobState,
    loses_every: int,
) -> None:
    job = begin(house)
    assert house.state(job) is state
    office.posted.clear()  # all messages so far are lost
    decide(house, job)

    for number in range(1, 100):
        if house.store.job(job).is_final:
            break
        house.clock.advance(timedelta(hours=1) if state is JobState.OPEN else SECOND * 7)
        office.look()
        if number % loses_every:
            office.deliver()
        office.posted.clear()

    assert house.state(job) is end
    assert sum(house.store.tally(job).values()) == house.store.job(job).items
