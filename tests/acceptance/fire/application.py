"""An application that hands orders to the service, whatever happens to it meanwhile."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

from tests.acceptance.fire.orders import Order
from worker.client import ClientError, DeletionClient, NoAnswer, Refused

#: How long one try waits for its answer.
PATIENCE = timedelta(seconds=12)

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Due:
    """An order and when it is given, in seconds from the start, unless there is hurry."""

    order: Order
    at: float


class Application:
    """One thread that gives its orders one after the other; use it in a `with` statement.

    It does what the client's documentation says: silence is answered with the
    same request once more. Some orders it repeats though they were accepted.
    """

    def __init__(self, broker_url: str, orders: Sequence[Due], *, seed: int) -> None:
        self._url = broker_url
        self._orders = sorted(orders, key=lambda due: due.at)
        self._dice = random.Random(seed)
        self._is_over = threading.Event()
        self._is_hurried = threading.Event()
        self._thread = threading.Thread(target=self._run, name="application")
        self.accepted: list[Order] = []
        #: Requests that had no answer in time and were sent again.
        self.repeated = 0
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self.hurry()
        self._thread.join()

    def hurry(self) -> None:
        """Give the orders that are left without waiting for their time."""
        self._is_hurried.set()

    @property
    def is_done(self) -> bool:
        """Whether every order was accepted, or cannot be."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        began = time.monotonic()
        with DeletionClient(self._url, timeout=PATIENCE) as client:
            for due in self._orders:
                self._is_hurried.wait(max(0.0, due.at - (time.monotonic() - began)))
                if self._is_over.is_set():
                    return
                try:
                    self._give(client, due.order)
                except ClientError as error:
                    self.faults.append(f"job {due.order.job} is not taken: {error}")

    def _give(self, client: DeletionClient, order: Order) -> None:
        def submit() -> None:
            client.submit(order.target, iter(order.items), job=order.job, requested_by="fire")

        self._insist(submit)
        self.accepted.append(order)
        if order.is_cancelled:
            self._insist(lambda: client.cancel(order.job))
        # What was accepted may be sent again by whoever did not hear of it.
        elif self._dice.random() < 0.2:
            self._insist(submit)

    def _insist(self, ask: Callable[[], Found]) -> Found | None:
        """Repeat what had no answer."""
        while not self._is_over.is_set():
            try:
                return ask()
            except NoAnswer:
                self.repeated += 1
            except Refused as refusal:
                if refusal.code != "store_unavailable":
                    raise
                self.repeated += 1
        return None


def insist(ask: Callable[[], Found], *, seconds: float) -> Found:
    """What a request answers, repeated while it has none; at last its own error."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(NoAnswer):
            return ask()
    return ask()
