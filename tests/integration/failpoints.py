"""The steps at which a worker can be made to fail, by name.

Nothing of this is in the worker: a process arms itself by wrapping the function
that takes the step.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from importlib import import_module
from typing import Any


class Act(Enum):
    """What a process does to itself."""

    KILL = signal.SIGKILL  #: it is gone, with all that it had in its memory
    FREEZE = signal.SIGSTOP  #: it does nothing, and whoever it holds up is not told


@dataclass(frozen=True, slots=True)
class Step:
    """A function after which, or before which, a process fails."""

    says: str
    where: str
    is_before: bool = False
    #: A look takes it and no message does, once somebody has died at that other step.
    after: str | None = None
    #: Whether an answer of the function means that the step was taken.
    is_taken: Callable[[Any], bool] = lambda _: True


def _is_something(answer: Any) -> bool:
    return answer is not None


STEPS = {
    "submit.job": Step(
        "the job's row is written, its items are not", "worker.store.entering:insert_job"
    ),
    "submit.written": Step("job and items are written", "worker.store.arriving:submit"),
    "submit.committed": Step(
        "the job has landed, nobody was answered", "worker.store.sql:SqlStore.submit"
    ),
    "append.written": Step("a chunk is written", "worker.store.landing:append"),
    "append.committed": Step(
        "a chunk has landed, nobody was answered", "worker.store.sql:SqlStore.append"
    ),
    "seal.written": Step(
        "the job is complete, which is not committed", "worker.store.landing:seal"
    ),
    "seal.committed": Step(
        "the job is complete, nobody was told to plan it", "worker.store.sql:SqlStore.seal"
    ),
    "plan.written": Step("the right to plan is written", "worker.store.planning:begin_planning"),
    "plan.committed": Step(
        "the right to plan is taken, nothing is planned", "worker.store.sql:SqlStore.begin_planning"
    ),
    "cut.written": Step("the ranges are written", "worker.store.planning:add_batches"),
    "cut.committed": Step(
        "the ranges are there, the job does not run", "worker.store.sql:SqlStore.add_batches"
    ),
    "start.written": Step(
        "the job is to run, which is not committed", "worker.store.planning:start"
    ),
    "start.committed": Step("the job runs, no bell was rung", "worker.store.sql:SqlStore.start"),
    "find.written": Step("one more find is counted", "worker.store.finding:begin_find"),
    "find.committed": Step("a find is begun", "worker.store.sql:SqlStore.begin_find"),
    "freeze.written": Step("the frozen query is written", "worker.store.finding:freeze"),
    "freeze.committed": Step(
        "the query is frozen, nothing is found", "worker.store.sql:SqlStore.freeze"
    ),
    "found.written": Step(
        "a stride of what was found is written", "worker.store.finding:land_found"
    ),
    "found.committed": Step(
        "a stride of what was found has landed", "worker.store.sql:SqlStore.land_found"
    ),
    "found_all.written": Step("the end of the find is written", "worker.store.finding:end_find"),
    "found_all.committed": Step(
        "all is found, nothing is cut", "worker.store.sql:SqlStore.end_find"
    ),
    "claim.locked": Step("the target's row is locked", "worker.store.claiming:lock_target"),
    "claim.served": Step("the jobs are served, without a lease", "worker.store.claiming:_serve"),
    "claim.leased": Step(
        "the lease is written, no batch is marked",
        "worker.store.claiming:_mark_taken",
        is_before=True,
    ),
    "claim.marked": Step("the batches are marked", "worker.store.claiming:_mark_taken"),
    "claim.committed": Step(
        "the claim holds, nobody was called", "worker.store.sql:SqlStore.claim_many"
    ),
    "call.before": Step("the call is about to be made", "worker.deleting:delete", is_before=True),
    "call.after": Step("the answer is in hand, nothing is recorded", "worker.deleting:delete"),
    "record.written": Step("the batches are written", "worker.store.recording:_write"),
    "record.committed": Step(
        "the outcomes are there, the slice goes on", "worker.store.sql:SqlStore.record_many"
    ),
    "split.written": Step("a refused batch is parted", "worker.store.recording:split"),
    "split.committed": Step("the halves are ready", "worker.store.sql:SqlStore.record_many"),
    "settle.written": Step(
        "the job is closed, which is not committed",
        "worker.store.settling:_close",
        is_taken=bool,
    ),
    "settle.committed": Step(
        "the job has ended, nobody is notified",
        "worker.store.sql:SqlStore.settle_done",
        is_taken=lambda closing: bool(closing.settled),
    ),
    "notify.sent": Step("the notification is sent, and owed as before", "worker.tasks:_send"),
    "look.written": Step(
        "a bell counts as rung", "worker.store.looking:look", after="start.committed"
    ),
    "look.committed": Step(
        "a look is won, nothing is done about it",
        "worker.store.sql:SqlStore.look",
        after="start.committed",
        is_taken=_is_something,
    ),
    "rescue.written": Step(
        "lost batches are given back", "worker.store.recording:rescue", after="claim.committed"
    ),
    "rescue.committed": Step(
        "lost batches are ready, no bell was rung",
        "worker.store.sql:SqlStore.rescue",
        after="claim.committed",
    ),
}


def arm(name: str, act: Act) -> None:
    """Let this process fail at a step, once."""
    from worker import tasks
    from worker.duty import Duty

    step = STEPS[name]
    _wrap(step, act)
    if step.after:
        # What it posts is lost with it, or it would work on what it found.
        tasks.post = lambda *_, **__: None
    else:
        # It lives for one message: a look would trip over what others left.
        Duty.look_regularly = lambda *_: None  # type: ignore[method-assign]


def _wrap(step: Step, act: Act) -> None:
    """Put a function that fails in the place of the step's."""
    module, _, path = step.where.partition(":")
    *outer, name = path.split(".")
    owner: Any = import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    take = getattr(owner, name)
    once = [act.value]

    def fail() -> None:
        with suppress(IndexError):
            os.kill(os.getpid(), once.pop())

    @wraps(take)
    def failing(*args: Any, **named: Any) -> Any:
        if step.is_before:
            fail()
        answer = take(*args, **named)
        if not step.is_before and step.is_taken(answer):
            fail()
        return answer

    setattr(owner, name, failing)
