"""Follows a job to its end: a bar on a terminal, silence elsewhere."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Self

from api_adapters.base import Verdict
from worker.cli.ends import say
from worker.errors import StoreUnavailable
from worker.job import JobId, JobState, JobStatus
from worker.store.base import Store, Who
from worker.target import Target

if TYPE_CHECKING:
    from rich.progress import Progress

#: How often the store is asked.
EVERY = timedelta(milliseconds=150)
#: Items of a dry run that are shown.
SAMPLE = 5
#: A store that is away longer than this ends the following, not the job.
STORE_PATIENCE = 60.0

Watcher = Callable[[JobStatus], None]


def follow(
    store: Store, job: JobId, *, look_after: Callable[[], None] = lambda: None, who: Who | None
) -> JobStatus:
    """Wait until a job has ended, or waits for a person.

    A first Ctrl-C cancels the job in the name of `who` and waits for its end,
    a second one leaves; without `who` the first one leaves.

    Raises:
        KeyboardInterrupt: a person leaves.
    """
    with _Interruptions() as interruptions, _shown() as show:
        status = _wait(store, job, show, look_after, interruptions)
        if status is None and who is not None and not _is_cancelled(store, job):
            say("cancelling the job; Ctrl-C again leaves it to itself")
            store.cancel(job, who)
            status = _wait(store, job, show, look_after, interruptions)
        if status is None:
            raise KeyboardInterrupt
        return status


def _is_cancelled(store: Store, job: JobId) -> bool:
    """Whether an earlier Ctrl-C, or somebody else, has cancelled it."""
    return store.job(job).state is JobState.CANCELLING


class _Interruptions:
    """Counts Ctrl-C; raised amid a transaction or a garbage collection it could get lost."""

    def __init__(self) -> None:
        self._unseen = 0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def take(self) -> bool:
        """Whether there is one that was not taken yet."""
        is_there = self._unseen > 0
        self._unseen -= is_there
        return is_there

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._unseen += 1
        # Whoever presses on and on may wait for a store that does not answer.
        if self._unseen > 2:
            raise KeyboardInterrupt


def _wait(
    store: Store,
    job: JobId,
    show: Watcher,
    look_after: Callable[[], None],
    interruptions: _Interruptions,
) -> JobStatus | None:
    """What the job is once it waits for nobody here; None if a person interrupts."""
    answered_at = time.monotonic()
    while not interruptions.take():
        try:
            status = store.status(job)
            answered_at = time.monotonic()
        except StoreUnavailable:
            if time.monotonic() - answered_at > STORE_PATIENCE:
                raise
        else:
            show(status)
            if status.job.is_final or status.job.state is JobState.AWAITING_APPROVAL:
                return status
        look_after()
        time.sleep(EVERY.total_seconds())
    return None


@contextmanager
def _shown() -> Iterator[Watcher]:
    """A progress bar where a person looks on."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with progress_bar() as bar:
        task = bar.add_task("waiting", total=None)

        def show(status: JobStatus) -> None:
            total = status.job.items or None
            done = status.job.items - status.pending
            bar.update(task, total=total, completed=done, description=describe(status))

        yield show


def progress_bar() -> "Progress":
    """The one look of all our progress bars, on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def describe(status: JobStatus) -> str:
    """A job in a few words."""
    waits = f", waiting for {status.waiting_for}" if status.waiting_for else ""
    return f"{status.job.target}: {status.job.state}{waits}"


def tally_lines(status: JobStatus) -> Iterator[str]:
    """How a job ended, for people."""
    job = status.job
    seconds = ((job.finished_at or status.seen_at) - job.created_at).total_seconds()
    yield f"job {job.id} on {job.target}: {job.state} after {seconds:.1f} s"
    if job.reason:
        yield f"  reason: {job.reason}"
    for verdict, count in status.tally.items():
        if count:
            yield f"  {verdict:<10}{count:>12,}"
    if status.pending:
        yield f"  {'pending':<10}{status.pending:>12,}"
    yield f"  {'items':<10}{job.items:>12,}   and {job.duplicates:,} duplicates"


def plan_lines(store: Store, status: JobStatus, target: Target | None) -> Iterator[str]:
    """What a dry run found, what it would take, and how to execute it."""
    job = status.job
    is_kept = job.state is JobState.COMPLETED and job.pruned_at is None
    if not job.dry_run or not is_kept:
        return
    if target is not None:
        most = target.limits.max_items_per_call
        calls = -(-status.tally.get(Verdict.SKIPPED, 0) // most)
        yield f"would take {calls:,} calls of up to {most} items"
    for text in store.sample(job.id, limit=SAMPLE):
        yield f"  {text}"
    yield f"to delete exactly these: deletions submit --plan {job.id}"
