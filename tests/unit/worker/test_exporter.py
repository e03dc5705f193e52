"""What Prometheus is told, read back as Prometheus reads it."""

import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps
from tests.factories import MINUTE, SECOND, Clock, new_job
from worker.breaking import Circuit
from worker.call import Answer, Call
from worker.errors import StoreUnavailable, WrongMigration
from worker.exporter import Exporter, circuit_state
from worker.purge import Decision, Purge, RunOutcome
from worker.scheduling import Schedule
from worker.store.base import CallNote, TargetNote, Who
from worker.store.memory import MemoryStore

PURGE = Purge(
    name="old",
    target="crm",
    fingerprint="f1",
    query={"keyword": "old"},
    schedule=Schedule(every=timedelta(days=1)),
    alert_after=timedelta(days=2),
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock)


def nothing() -> None:
    """The store is at our migration, or the broker answers."""


def scrape(
    store: MemoryStore, *, check: Callable[[], None] = nothing, broker: str | None = None
) -> dict[str, Metric]:
    exporter = Exporter(
        store,
        targets={"erp": None},  # type: ignore[dict-item]  # their names alone are told
        purges={"old": PURGE},
        check_migration=check,
        ping_broker=lambda: broker,
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    found = text_string_to_metric_families(generate_latest(registry).decode())
    return {family.name: family for family in found}


def value(told: dict[str, Metric], name: str, family: str | None = None, **labels: str) -> float:
    family = family or name.removesuffix("_total")
    values = [
        one.value
        for one in told[family].samples
        if one.name == name and labels.items() <= one.labels.items()
    ]
    return sum(values)


def test_items_and_calls_are_told_by_target(store: MemoryStore) -> None:
    steps = Steps(store)
    steps.running(3)
    claim = steps.claim()
    calls = (
        Call(Answer.OK, SECOND * 2),
        Call(Answer.LOST, SECOND * 70),
        Call(Answer.PACED, SECOND),
    )
    store.record(claim.lease, [], call=CallNote(SECOND, answered=True, calls=calls))
    steps.record(claim, Verdict.ABSENT)

    told = scrape(store)

    assert value(told, "deletions_items_total", target="crm", verdict="absent") == 3
    assert value(told, "deletions_items_total", target="crm") == 3
    assert value(told, "deletions_calls_total", target="crm", answer="lost") == 1
    assert value(told, "deletions_calls_total", target="crm") == 3
    name = "deletions_call_duration_seconds"
    assert value(told, f"{name}_count", name, target="crm") == 2
    assert value(told, f"{name}_sum", name, target="crm") == 72
    assert value(told, f"{name}_bucket", name, target="crm", le="2.5") == 1
    assert value(told, f"{name}_bucket", name, target="crm", le="60.0") == 1
    assert value(told, f"{name}_bucket", name, target="crm", le="+Inf") == 2


def test_a_target_that_was_never_used_is_told_with_zeros(store: MemoryStore) -> None:
    told = scrape(store)

    assert value(told, "deletions_items_total", target="erp", verdict="deleted") == 0
    assert len(told["deletions_items"].samples) == len(Verdict)
    assert value(told, "deletions_batches_ready", target="erp") == 0


def test_what_waits_is_told(store: MemoryStore, clock: Clock) -> None:
    steps = Steps(store)
    steps.running(4, size=2)
    steps.claim()
    steps.running(6, size=2)
    clock.advance(SECOND * 9)
    store.note_tick()
    clock.advance(SECOND * 2)

    told = scrape(store)

    assert value(told, "deletions_batches_ready", target="crm") == 3
    assert value(told, "deletions_batches_leased", target="crm") == 2
    assert value(told, "deletions_leases", target="crm") == 1
    assert value(told, "deletions_oldest_ready_batch_age_seconds", target="crm") == 11
    assert value(told, "deletions_clock_lag_seconds") == 2
    assert math.isinf(value(told, "deletions_look_lag_seconds"))


@pytest.mark.parametrize(
    ("note", "state"),
    [
        (TargetNote(circuit=Circuit(4, 0), rests_for=SECOND), 0),
        (TargetNote(circuit=Circuit(5, 1)), 1),
        (TargetNote(circuit=Circuit(5, 1), rests_for=SECOND), 2),
    ],
)
def test_the_circuit_is_told_as_a_number(note: TargetNote, state: int) -> None:
    assert circuit_state(note) == state


def test_a_closed_target_is_told(store: MemoryStore) -> None:
    store.close_target("crm", reason="the token is wrong", rest=MINUTE)

    told = scrape(store)

    assert value(told, "deletions_target_closed", target="crm") == 1
    assert value(told, "deletions_target_rest_seconds", target="crm") == 60


def test_a_purge_is_told_with_its_last_run_and_success(store: MemoryStore, clock: Clock) -> None:
    assert not scrape(store)["deletions_purge_last_success_timestamp_seconds"].samples
    store.register_purge("old", digest=PURGE.digest)
    job = new_job(query={"keyword": "old"}, purge="old", purge_digest=PURGE.digest)
    decision = Decision(clock(), RunOutcome.BEGUN, job=job)
    store.run_purge("old", lambda _: decision, who=Who())
    assert value(scrape(store), "deletions_purge_last_run_state", state="planning") == 1
    store.begin_planning(job.id, holder="w1", lasting=MINUTE)
    store.end_find(job.id, holder="w1")
    assert store.start(job.id)
    store.settle(job.id)

    told = scrape(store)

    assert value(told, "deletions_purge_last_run_state", purge="old", state="completed") == 1
    at = value(told, "deletions_purge_last_success_timestamp_seconds", purge="old")
    assert at == clock().timestamp()
    assert value(told, "deletions_purge_overdue", purge="old") == 0
    clock.advance(timedelta(days=3))
    assert value(scrape(store), "deletions_purge_overdue", purge="old") == 1


@pytest.mark.parametrize("error", [StoreUnavailable("away"), WrongMigration("older")])
def test_a_store_that_cannot_be_read_is_told_and_nothing_else(
    store: MemoryStore, error: Exception
) -> None:
    def check() -> None:
        raise error

    told = scrape(store, check=check)

    assert value(told, "deletions_up") == value(told, "deletions_store_up") == 0
    assert value(told, "deletions_broker_up") == 1
    assert "deletions_items" not in told


def test_up_is_store_and_broker(store: MemoryStore) -> None:
    assert value(scrape(store), "deletions_up") == 1
    told = scrape(store, broker="it does not answer")
    assert value(told, "deletions_up") == value(told, "deletions_broker_up") == 0
    assert value(told, "deletions_store_up") == 1


def test_every_label_is_of_a_closed_set_or_configured(store: MemoryStore) -> None:
    steps = Steps(store)
    steps.work_off(steps.running(["an item", "another"]))

    labels = {
        name for family in scrape(store).values() for s in family.samples for name in s.labels
    }

    assert labels == {"target", "verdict", "answer", "le", "purge", "version"}
