"""The Celery tasks: each calls one actor and posts what follows.

Public tasks answer; a refusal is an answer too, `{"error": {...}}`, so that
every client can read it. The others are nudges: losing, doubling or delaying
one costs time, nothing else.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from threading import BoundedSemaphore
from traceback import extract_tb
from typing import Any

from celery import Task
from celery.concurrency.thread import TaskPool
from celery.signals import (
    celeryd_init,
    worker_process_init,
    worker_ready,
    worker_shutting_down,
)
from kombu.exceptions import OperationalError

from worker import requests
from worker.app import THREADS, WRONG_CONFIGURATION, app
from worker.crew import Crew
from worker.desk import Answer, Desk
from worker.dispatcher import PromptDispatcher
from worker.duty import Duty, current, open_duty
from worker.errors import DeletionError, RefusedRequest, StoreUnavailable
from worker.fields import bound
from worker.job import JobId, JobState, Tally
from worker.memory import keep_few_arenas, look_less_for_garbage
from worker.quiet import UNREADABLE, QuietRequest, Shown, describe, names_in
from worker.slots import KEPT_FOR_CONTROL, Turned
from worker.store.base import Look, Owed, Settled, Who

log = logging.getLogger("deletions.tasks")

#: How long one bell keeps a thread; what it has claimed by then it finishes.
SLICE = timedelta(seconds=1)
#: The same where no other target's bell was heard of late. The slices of a large
#: job begin together: where they end together, all have to be called for again.
LONGEST_SLICE = timedelta(seconds=30)
#: Chunks that one process takes in at a time, and seconds that another one waits.
MOST_LANDING, LANDING_WAITS = 2, 2.0
#: How long one pruning keeps a thread; the next one goes on.
PRUNING_LASTS = timedelta(minutes=10)
#: How often a bell goes to another process, by why this one has no use for it. Where
#: somebody else's message takes the other's turn, it comes back at once.
MOST_PASSED = {Turned.FULL: 3, Turned.ENOUGH: 1}
#: Seconds after which a request that nobody hears of is tried again while the
#: store is away.
KEPT_SECONDS = 5
#: Notifications sent in one go; the next look sends the others.
MOST_NOTIFIED = 100
#: Jobs that the shown result of a slice names. Counts stand before ids in a
#: result, as Flower's column cuts it off.
MOST_JOBS_SHOWN = 5


#: A job's state and tally as we tell them; whatever else a sender writes there is not shown.
_TOLD = re.compile(r"[a-z_]{1,20}(?: [a-z]{1,10}=[0-9]{1,15}){0,10}")


class QuietTask(Task):  # type: ignore[misc]  # Celery publishes no types
    """A task of which nobody is shown an item."""

    Request = QuietRequest
    # Celery would refuse unknown arguments with a traceback that holds them;
    # ours are checked at the desk.
    typing = False


# -- public tasks ---------------------------------------------------------------


def public(name: str, serve: Callable[[Desk, Mapping[str, Any], str], Answer]) -> Any:
    """Register a public task.

    It is acknowledged late: it carries what the store does not hold yet, and
    repeating it is safe.
    """

    # A sender may name an argument "self", which is one of his own.
    def run(self: QuietTask, /, *args: Any, **arguments: Any) -> Shown:
        with bound(task=name, **names_in(arguments)):
            return do(self, args, arguments)

    def do(self: QuietTask, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> Shown:
        try:
            answer = serve(duty().deployment.desk(), _readable(args, arguments), self.request.id)
        except RefusedRequest as refusal:
            return _refusal(refusal)
        except StoreUnavailable as away:
            if self.request.ignore_result:
                # Nobody would hear the refusal and send it again.
                log.warning("submit.kept", extra={"cause": str(away)})
                raise self.retry(countdown=KEPT_SECONDS, max_retries=None) from None
            return _refusal(RefusedRequest("store_unavailable", str(away)))
        except Exception as error:  # noqa: BLE001
            raise _hidden(name, error) from None
        follow(answer)
        return Shown(answer.body, answer.shown)

    return app.task(run, name=name, base=QuietTask, bind=True, acks_late=True, ignore_result=False)


def _readable(args: tuple[Any, ...], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments, where there are any. Raises RefusedRequest."""
    match arguments.get(UNREADABLE):
        case {"code": "invalid_message" | "too_large" as code, "message": str() as message}:
            raise RefusedRequest(code, message)
    if args:
        raise RefusedRequest("invalid_message", "expected keyword arguments only")
    return arguments


def _refusal(refusal: RefusedRequest) -> Shown:
    """A refusal as the task's result."""
    error = {"code": refusal.code, "message": refusal.message, "data": refusal.data}
    return Shown({"error": error}, f"refused: {refusal.code}")


def _hidden(name: str, error: Exception) -> RuntimeError:
    """What nobody expected, without what it says: that may hold an item.

    Celery would log it, and show it in Flower, with its causes and their words.
    """
    frames = [f"{one.filename}:{one.lineno}" for one in extract_tb(error.__traceback__)]
    told = {"task": name, "error": type(error).__name__, "where": " ".join(frames)}
    log.error("task.broke", extra=told)
    return RuntimeError(f"{name} broke: {type(error).__name__}")


def land(desk: Desk, given: Mapping[str, Any]) -> Answer:
    """Take a chunk in; of one process two at a time.

    More at once would only take the processor from each other, and each takes
    some MiB. Whoever waits for long goes on all the same: the store may be away,
    and those before it wait for that.
    """
    is_admitted = _landing.acquire(timeout=LANDING_WAITS)
    try:
        return desk.append(given)
    finally:
        if is_admitted:
            _landing.release()


submit = public("deletions.submit", lambda desk, given, id_: desk.submit(given, message_id=id_))
open_ = public("deletions.open", lambda desk, given, _: desk.open(given))
append = public("deletions.append", lambda desk, given, _: land(desk, given))
seal = public("deletions.seal", lambda desk, given, _: desk.seal(given))
status = public("deletions.status", lambda desk, given, _: desk.status(given))
results = public("deletions.results", lambda desk, given, _: desk.results(given))
item = public("deletions.item", lambda desk, given, _: desk.item(given))
pause = public("deletions.pause", lambda desk, given, _: desk.pause(given))
resume = public("deletions.resume", lambda desk, given, _: desk.resume(given))
cancel = public("deletions.cancel", lambda desk, given, _: desk.cancel(given))
retry = public("deletions.retry", lambda desk, given, _: desk.retry(given))


# -- nudges ---------------------------------------------------------------------


def nudge(name: str) -> Callable[[Callable[..., Shown]], Any]:
    """Register a nudge; what it could not do, the look has done later."""

    def register(do: Callable[..., Shown]) -> Any:
        def run(*args: Any, **arguments: Any) -> Shown:
            with bound(task=name, **names_in(arguments)):
                try:
                    return do(*args, **arguments)
                except (StoreUnavailable, RefusedRequest) as why:
                    log.warning("nudge.failed", extra={"cause": str(why)})
                    return Shown(None, f"not done: {type(why).__name__}")
                except Exception as error:  # noqa: BLE001
                    raise _hidden(name, error) from None

        return app.task(run, name=name, base=QuietTask)

    return register


@nudge("deletions.plan")
def plan(job: str) -> Shown:
    """Find a job's items where it has none yet, and cut it into batches."""
    job_id = requests.parse_job_id(job)
    mine = duty()
    planner = mine.deployment.planner(is_ending=mine.is_ending.is_set)
    wanted = mine.deployment.store.job(job_id)
    if not wanted.is_to_be_found:
        planned = planner.plan(job_id)
    else:
        # A find may take hours: it has a slot, so that control is not held up.
        with mine.slots.enter(wanted.target) as is_free:
            if not is_free:
                return Shown(None, f"job={job_id} no slot is free")
            planned = planner.plan(job_id)
    if planned is None:
        return Shown(None, f"job={job_id} nothing to plan")
    ring_if_due([planned.target])
    close([job_id])
    return Shown(None, f"{planned.state} items={planned.items} job={job_id}")


@nudge("deletions.execute")
def execute(target: str, passed: int = 0) -> Shown:
    """Delete what is ready on a target: for a second, or longer while nobody else waits.

    A bell that was `passed` on has been to so many other processes.
    """
    mine, passed = duty(), max(0, passed) if isinstance(passed, int) else 0
    # Whoever may publish may name anything, and slots remember names.
    if not isinstance(target, str) or target not in mine.deployment.targets:
        return Shown(None, "there is no such target")
    run = partial(
        mine.executor.run,
        target,
        is_over=partial(_is_over, mine, target, began=time.monotonic()),
        is_ending=mine.is_ending.is_set,
        close=close,
    )
    let_others_in = partial(_let_others_in, mine)
    work = partial(run, by_bell=False)
    with Crew(target, mine.slots, work=work, has_left=let_others_in) as crew:
        with mine.slots.work(target, may_pass=passed == 0) as place:
            if isinstance(place, Turned):
                return _turn_away(mine, target, place, passed=passed)
            done = run(place=place, crew=crew.call)
        let_others_in()
    done.add(crew.done)
    if mine.slots.has_declined(target):
        mine.deployment.store.answer_bell(target)
        ring_if_due([target])
    close(done.touched)
    jobs = [f"job={job} items={count}" for job, count in done.decided.most_common(MOST_JOBS_SHOWN)]
    counts = f"items={done.decided.total()} calls={done.calls} jobs={len(done.decided)}"
    return Shown(None, " ".join([counts, *jobs]))


def _let_others_in(mine: Duty) -> None:
    """Ring for targets whose bells found no slot: one is free now."""
    for waiting in mine.slots.turned_away():
        post(execute, target=waiting)


def _turn_away(mine: Duty, target: str, why: Turned, *, passed: int) -> Shown:
    """Leave a bell to others: another process hears it, for this one has just been served."""
    reason = "enough are at work here" if why is Turned.ENOUGH else "no slot is free"
    if passed < MOST_PASSED[why]:
        post(execute, target=target, passed=passed + 1)
        return Shown(None, f"target={target} {reason}, passed on")
    # Soon a claim rings again, and whoever ends a slice here does.
    mine.deployment.store.decline_bell(target)
    return Shown(None, f"target={target} {reason}")


def _is_over(mine: Duty, target: str, *, began: float) -> bool:
    """Whether a slice has had its time."""
    lasted = timedelta(seconds=time.monotonic() - began)
    if mine.is_ending.is_set() or lasted > (LONGEST_SLICE if _hears_others[0] else SLICE):
        return True
    return lasted > SLICE and mine.slots.has_others(target)


@nudge("deletions.settle")
def settle(job: str, tally: object = None) -> Shown:
    """Close a job if none of its batches is open; the result is its tally.

    With a `tally` of ours it has been closed, and is only to be seen on the dashboard.
    """
    job_id = requests.parse_job_id(job)
    if not (isinstance(tally, str) and _TOLD.fullmatch(tally)):
        deployment = duty().deployment
        status = deployment.settler().settle(job_id) or deployment.store.status(job_id)
        tally = _told(status.job.state, status.tally)
    return Shown(None, f"{tally} job={job_id}")


def _told(state: JobState, tally: Tally) -> str:
    """A job's state and tally in one line."""
    counts = [f"{verdict}={count}" for verdict, count in tally.items() if count]
    return " ".join([state, *counts])


# -- the clock ------------------------------------------------------------------


@nudge("deletions.purge")
def purge() -> Shown:
    """Begin what standing orders are due for."""
    runs = duty().deployment.purger().tick()
    for run in runs:
        if run.job is not None:
            post(plan, job=run.job)
    return Shown(None, " ".join(f"purge={run.purge} {run.outcome}" for run in runs) or "none due")


@nudge("deletions.prune")
def prune() -> Shown:
    """Drop what was kept for long enough."""
    mine = duty()
    over_at = time.monotonic() + PRUNING_LASTS.total_seconds()
    done = mine.deployment.pruner().prune(
        Who(), is_over=lambda: mine.is_ending.is_set() or time.monotonic() > over_at
    )
    close(done.declined)
    return Shown(None, f"jobs={len(done.jobs)} declined={len(done.declined)}")


# -- what follows ---------------------------------------------------------------


def follow(answer: Answer) -> None:
    """Post what follows an answer; what is lost here, the look finds."""
    for job in answer.plan:
        post(plan, job=job)
    try:
        ring_if_due(answer.ring)
        close(answer.settle)
    except StoreUnavailable as away:
        log.warning("follow.failed", extra={"cause": str(away)})


def close(jobs: Iterable[JobId]) -> None:
    """Close jobs that can be closed, and let the dashboard see it."""
    is_owing = False
    for one in duty().deployment.settler().settle_all(jobs):
        told = {"job": one.job, "target": one.target, "state": one.state.value}
        log.info("job.settled", extra=told)
        show_settled(one)
        is_owing = is_owing or one.notify is not None
    if is_owing:
        notify()


def show_settled(one: Settled) -> None:
    """Let the dashboard see that a job was closed.

    The process that hears messages tells of it by itself: a message for each of
    ten thousand small jobs took as long as the jobs. A child of a pool has
    nobody to tell, so it posts one.
    """
    dispatcher = getattr(_hearing[0], "event_dispatcher", None)
    tally = _told(one.state, one.tally)
    if isinstance(dispatcher, PromptDispatcher):
        arguments, result = describe({"job": one.job}), f"{tally} job={one.job}"
        dispatcher.show_done(settle.name, arguments=arguments, result=result)
    else:
        post(settle, job=one.job, tally=tally)


def notify() -> None:
    """Send the notifications that are owed; what is sent twice is sent at least once."""
    deployment = duty().deployment
    for owed in deployment.store.owed(limit=MOST_NOTIFIED):
        settings = deployment.configuration.notify.get(owed.notify)
        if settings is None:
            log.error("notify.unknown", extra={"job": owed.job, "notify": owed.notify})
        elif not _send(settings.task, settings.queue, owed):
            return
        deployment.store.pay(owed.job)


def _send(task: str, queue: str, owed: Owed) -> bool:
    """Tell another application that a job has settled; whether it went out."""
    told = {"job": owed.job, "state": owed.state.value, "tally": dict(owed.tally)}
    try:
        app.send_task(
            task,
            kwargs=told,
            queue=queue,
            kwargsrepr=describe(told),
            retry=False,
            ignore_result=True,
        )
    except OperationalError as error:
        log.warning("notify.delayed", extra={"job": owed.job, "cause": type(error).__name__})
        return False
    return True


def ring_if_due(targets: Iterable[str]) -> None:
    """Ring targets whose bell is due, but for those that are looked at soon."""
    mine = duty()
    for target in targets:
        if not mine.executor.looks_soon(target) and mine.deployment.store.may_ring(target):
            post(execute, target=target)


def act(found: Look) -> None:
    """Do what a look at the store found to be done."""
    for target in found.ring:
        post(execute, target=target)
    for job in found.plan:
        post(plan, job=job)
    close(found.settle)
    if found.has_lost_leases:
        # Which they were, the events of the store say.
        log.warning("lease.taken_over")
        close(duty().deployment.rescuer().rescue())
    if found.is_owing:
        notify()


def post(task: Any, **arguments: str | int) -> None:
    """Send a nudge; a broker that is away costs the look's two seconds, no more."""
    try:
        task.apply_async(
            kwargs=arguments,
            argsrepr="()",
            kwargsrepr=describe(arguments),
            retry=False,
        )
    except OperationalError as error:
        told = {"task": task.name, **arguments, "cause": type(error).__name__}
        log.warning("nudge.lost", extra=told)


class _PostedBells:
    """Bells that are rung by message."""

    def ring(self, target: str) -> None:
        """Tell some worker that there is work on this target."""
        post(execute, target=target)


# -- the process ----------------------------------------------------------------

#: Whoever takes a chunk in.
_landing = BoundedSemaphore(MOST_LANDING)
#: Threads of this process; a worker that is started with `-c` says so.
_threads = [THREADS]
#: Who hears messages in this process, if anybody does.
_hearing: list[Any] = [None]
#: Whether other threads of this process hear messages while one is at work.
_hears_others = [False]


def duty() -> Duty:
    """What this process has; opened when it is first needed."""
    return current.get(lambda: open_duty(threads=_threads[0], bells=_PostedBells()))


@celeryd_init.connect
def _note_threads(options: Mapping[str, Any], **_: Any) -> None:
    keep_few_arenas()
    if options.get("concurrency"):
        _threads[0] = int(options["concurrency"])


@worker_ready.connect
def _begin(sender: Any = None, **_: Any) -> None:
    """Open the store before the first message and begin to look at it."""
    _hearing[0] = sender
    pool = getattr(sender, "pool", None)
    _hears_others[0] = isinstance(pool, TaskPool) and _threads[0] > KEPT_FOR_CONTROL
    try:
        duty().look_regularly(act)
    except DeletionError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(WRONG_CONFIGURATION) from error
    look_less_for_garbage()


@worker_process_init.connect
def _begin_child(**_: Any) -> None:
    """A child of another pool looks by itself: its parent may have no store open."""
    _hearing[0], _hears_others[0] = None, False
    duty().look_regularly(act)
    look_less_for_garbage()


@worker_shutting_down.connect
def _end(**_: Any) -> None:
    """Slices end at once; what was claimed and not sent is given back."""
    current.end()
