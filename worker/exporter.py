"""The exporter tells Prometheus what the store knows, read anew at each scrape.

All processes of every pool write to the one store, so that none is counted
twice or left out, and what a killed one had counted stays. The labels are
configured names and closed sets: never a job, a key or an item.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from math import inf

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from worker.call import BOUNDS, Answer
from worker.errors import StoreError
from worker.job import empty_tally
from worker.purge import Purge, PurgeNote, RunStatus, is_overdue
from worker.store.base import Backlog, Measures, Store, TargetNote, Totals
from worker.target import Target

_LE = (*(str(bound.total_seconds()) for bound in BOUNDS), "+Inf")


class Exporter(Collector):
    """Collects on whichever thread asks; it changes nothing."""

    def __init__(
        self,
        store: Store,
        *,
        targets: Mapping[str, Target],
        purges: Mapping[str, Purge],
        check_migration: Callable[[], None],
        ping_broker: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._targets = targets
        self._purges = purges
        self._check_migration = check_migration
        self._ping_broker = ping_broker
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Everything; of a store that is away only that it is."""
        began = self._clock()
        found: list[Metric] = []
        try:
            self._check_migration()
            found += self._stored()
            is_up = True
        except StoreError:
            found, is_up = [], False
        has_broker = self._ping_broker() is None
        yield from states(store=is_up, broker=has_broker)
        yield from found
        yield GaugeMetricFamily(
            "deletions_scrape_duration_seconds",
            "How long it took to collect all this, in seconds.",
            value=self._clock() - began,
        )

    def _stored(self) -> Iterator[Metric]:
        """What the store knows. Raises StoreError."""
        measures = self._store.measure()
        idle = dict.fromkeys(self._targets, Backlog())
        backlogs = {**idle, **measures.backlogs}
        totals = {name: one.totals for name, one in backlogs.items()}
        yield from _counters(totals)
        yield from _backlogs(backlogs)
        yield from _circuits({name: one.note for name, one in backlogs.items()})
        yield from _lags(measures)
        yield from self._purge_runs()

    def _purge_runs(self) -> Iterator[Metric]:
        """How the standing orders fare."""
        succeeded = _gauge(
            "deletions_purge_last_success_timestamp_seconds",
            "When the last job of a purge ended that deleted for good, in seconds since 1970.",
            "purge",
        )
        state = _gauge(
            "deletions_purge_last_run_state",
            "1 for the state of the job of a purge's newest run, or for why it has none.",
            "purge",
            "state",
        )
        overdue = _gauge(
            "deletions_purge_overdue",
            "1 where a purge has not succeeded for longer than its alert_after.",
            "purge",
        )
        for name, purge in self._purges.items():
            at = self._store.purge_succeeded_at(name)
            note: PurgeNote = self._store.purge(name)
            last: RunStatus | None = next(iter(self._store.purge_runs(name, limit=1)), None)
            if at is not None:
                succeeded.add_metric([name], at.timestamp())
            if last is not None:
                state.add_metric([name, last.word], 1)
            overdue.add_metric([name], is_overdue(purge, note, succeeded_at=at))
        yield from (succeeded, state, overdue)


def states(*, store: bool, broker: bool) -> Iterator[Metric]:
    """What answers, and which program this is."""
    yield InfoMetricFamily("deletions_build", "This program.", value={"version": _version()})
    yield GaugeMetricFamily(
        "deletions_up", "1 where store and broker both answer.", value=store and broker
    )
    yield GaugeMetricFamily(
        "deletions_store_up",
        "1 where the store answers at this program's migration; else nothing of it is told.",
        value=store,
    )
    yield GaugeMetricFamily("deletions_broker_up", "1 where the broker answers.", value=broker)


def _gauge(name: str, help_: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, labels=labels)


def _counters(totals_by_target: Mapping[str, Totals]) -> Iterator[Metric]:
    """What has become of items and calls."""
    items = CounterMetricFamily(
        "deletions_items",
        "Items that have their verdict, dry runs among the skipped ones.",
        labels=("target", "verdict"),
    )
    calls = CounterMetricFamily(
        "deletions_calls", "Calls to the target by how it answered.", labels=("target", "answer")
    )
    lengths = HistogramMetricFamily(
        "deletions_call_duration_seconds",
        "How long calls took, in seconds, those left out that the pace let not out.",
        labels=("target",),
    )
    for target, totals in totals_by_target.items():
        for verdict in empty_tally():
            items.add_metric([target, verdict.value], totals.items.get(verdict, 0))
        for answer in Answer:
            calls.add_metric([target, answer.value], totals.calls.get(answer, 0))
        buckets = list(zip(_LE, map(float, accumulate(totals.lengths)), strict=True))
        lengths.add_metric([target], buckets, totals.took.total_seconds())
    yield from (items, calls, lengths)


def _backlogs(backlogs: Mapping[str, Backlog]) -> Iterator[Metric]:
    """What waits on each target."""
    ready = _gauge(
        "deletions_batches_ready", "Batches that wait, those of paused jobs too.", "target"
    )
    leased = _gauge("deletions_batches_leased", "Batches that a worker has.", "target")
    leases = _gauge("deletions_leases", "Places of the target that are taken.", "target")
    oldest = _gauge(
        "deletions_oldest_ready_batch_age_seconds",
        "How long a batch of a running job has been free to be claimed, in seconds; 0 for none.",
        "target",
    )
    for target, one in backlogs.items():
        ready.add_metric([target], one.ready)
        leased.add_metric([target], one.leased)
        leases.add_metric([target], one.note.live_leases)
        oldest.add_metric([target], _seconds(one.oldest))
    yield from (ready, leased, leases, oldest)


def _circuits(notes: Mapping[str, TargetNote]) -> Iterator[Metric]:
    """What holds each target back."""
    circuit = _gauge(
        "deletions_circuit_state",
        "The circuit of a target that failed: 0 closed, 1 half-open (one call is tried), 2 open.",
        "target",
    )
    closed = _gauge(
        "deletions_target_closed", "1 where login or address were found to be wrong.", "target"
    )
    rest = _gauge(
        "deletions_target_rest_seconds", "How long nothing of it is claimed, in seconds.", "target"
    )
    for target, note in notes.items():
        circuit.add_metric([target], circuit_state(note))
        closed.add_metric([target], note.closed_reason is not None)
        rest.add_metric([target], _seconds(note.rests_for))
    yield from (circuit, closed, rest)


def circuit_state(note: TargetNote) -> int:
    """0 closed, 1 half-open, 2 open.

    >>> circuit_state(TargetNote())
    0
    """
    if not note.circuit.is_open:
        return 0
    return 1 if note.rests_for is None else 2


def _lags(measures: Measures) -> Iterator[Metric]:
    """Who has not been heard of for how long."""
    yield GaugeMetricFamily(
        "deletions_clock_lag_seconds",
        "How long ago a worker heard the clock tick, in seconds; +Inf if none ever did.",
        value=_seconds(measures.ticked, never=inf),
    )
    yield GaugeMetricFamily(
        "deletions_look_lag_seconds",
        "How long ago a worker looked at the store, in seconds; +Inf if none ever did.",
        value=_seconds(measures.looked, never=inf),
    )
    yield GaugeMetricFamily(
        "deletions_lost_lease_age_seconds",
        "How long the oldest lease that ran out has not been taken over, in seconds; 0 for none.",
        value=_seconds(measures.lost_for),
    )


def _seconds(length: timedelta | None, *, never: float = 0.0) -> float:
    return never if length is None else length.total_seconds()


def _version() -> str:
    try:
        return version("deletion-worker")
    except PackageNotFoundError:
        return "unknown"
