"""What one worker process has: its actors, its slots, and its look at the store.

Why every job ends. With all messages lost, the looks at the store alone bring a
job on from whatever state it is in, and each step is taken a bounded number of
times:

    open               fed until it is sealed, or cancelled after a day without food
    planning           planned again once its planner's right has run out; a find
                       is begun a bounded number of times
    running, ready     its target's bell is rung, however often the bell is lost;
                       attempts, halvings and told waits of a range are bounded
    running, leased    the lease runs out and is taken over, which costs an attempt
    running, all done  settled by one conditional update
    cancelling         its ready ranges are ended in strides, then it is settled
    ended, owing       its notification is sent until the broker has taken it

Only `awaiting_approval`, for a week at most, and `paused` wait for a person, which is
their purpose.
"""

import logging
import os
import random
from collections.abc import Callable
from datetime import timedelta
from threading import Event, Lock, Thread
from traceback import extract_tb

from worker.assembly import Deployment, open_deployment, read_places
from worker.errors import StoreError, StoreUnavailable
from worker.executor import Bells, Executor
from worker.slots import Slots
from worker.store.base import Look

log = logging.getLogger("deletions.look")

#: Every process looks about this often; one of them wins.
LOOK_EVERY = timedelta(seconds=2)


class Duty:
    """One process's worker, shared by its threads."""

    def __init__(self, deployment: Deployment, *, threads: int, bells: Bells) -> None:
        self.deployment = deployment
        #: Set when the process is to end: slices stop claiming at once.
        self.is_ending = Event()
        self.executor: Executor = deployment.executor(bells, is_ending=self.is_ending.is_set)
        self.slots = Slots(threads)
        self._looker: Thread | None = None

    def look_regularly(self, act: Callable[[Look], None]) -> None:
        """Begin to look at the store every two seconds, in a thread of its own.

        Liveness rests on this alone: from every state that a job can be in,
        with all messages lost, a look brings it on.
        """
        self._looker = Thread(target=self._keep_looking, args=(act,), name="look", daemon=True)
        self._looker.start()

    def end(self) -> None:
        """Stop claiming and looking."""
        self.is_ending.set()
        if self._looker is not None:
            self._looker.join(timeout=5)

    def _keep_looking(self, act: Callable[[Look], None]) -> None:
        was_away = False
        while not self.is_ending.wait(_jittered(LOOK_EVERY)):
            try:
                if was_away:
                    self._come_back()
                    was_away = False
                found = self.deployment.store.look(every=LOOK_EVERY)
                if found is not None:
                    act(found)
            except StoreUnavailable as error:
                was_away = True
                log.warning("look.failed", extra={"cause": str(error)})
            except StoreError as error:
                log.warning("look.failed", extra={"cause": str(error)})
            # A look that broke must not be the last one: nothing else would
            # notice what is left to do.
            except Exception as error:  # noqa: BLE001
                # Not its words: a database's may hold what was to be written.
                frames = [f"{one.filename}:{one.lineno}" for one in extract_tb(error.__traceback__)]
                told = {"error": type(error).__name__, "where": " ".join(frames)}
                log.error("look.broke", extra=told)  # noqa: TRY400

    def _come_back(self) -> None:
        """Nothing is taken over at once from workers that could not reach the store."""
        lengthened = self.deployment.store.come_back()
        log.warning("store.back", extra={"lengthened": lengthened})


def _jittered(length: timedelta) -> float:
    """Seconds, a quarter more or less, so that processes do not look in step."""
    return length.total_seconds() * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)


class _Current:
    """The duty of this process, made when it is first needed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._duty: Duty | None = None
        self._pid = 0
        self._is_ended = False

    def get(self, make: Callable[[], Duty]) -> Duty:
        """The one of this process; a fork makes its own."""
        with self._lock:
            if self._duty is None or self._pid != os.getpid():
                self._duty = make()
                self._pid = os.getpid()
                # The wish to end may have come while it was being made.
                if self._is_ended:
                    self._duty.end()
            return self._duty

    def end(self) -> None:
        """End the one that there is, and the one that is being made.

        Without the lock: a signal calls this, and the thread that it interrupts
        may be the one that holds the lock, and would wait for itself.
        """
        self._is_ended = True
        if self._duty is not None and self._pid == os.getpid():
            self._duty.end()


current = _Current()


def open_duty(*, threads: int, bells: Bells) -> Duty:
    """Open what this process's environment names.

    Raises:
        BadConfiguration, WrongMigration, StoreUnavailable.
    """
    deployment = open_deployment(read_places(os.environ))
    return Duty(deployment, threads=threads, bells=bells)
