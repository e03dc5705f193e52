"""Items that a query finds, read with more patience than one call has."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from api_adapters.base import Adapter, Deadline, Item
from api_adapters.errors import Hopeless, Paced, Transient
from worker.retrying import LONGEST_PATIENCE, RetryRules, told_wait

#: How long a closed target is left alone at a time.
CLOSED_REST = timedelta(seconds=30)

Page = TypeVar("Page")


class Surroundings(Protocol):
    """What the reader of pages asks and tells between two of them."""

    def wait(self, length: timedelta) -> None:
        """Let time pass. Raises LeaseLost: the find is somebody else's by now."""
        ...

    def rests_for(self) -> timedelta | None:
        """How long the target is still left alone by everybody."""
        ...

    def rest(self, length: timedelta) -> None:
        """The target said so: leave it alone."""
        ...

    def close(self, reason: str, rest: timedelta) -> timedelta:
        """The target lets nobody in; for how long it has not."""
        ...


class Patience(Deadline):
    """Gives each page the time of a call, and reads it again after a passing fault.

    A find cannot go on where it broke off, so it is the page that waits, while
    the pages before it stay read. Being told to wait costs no attempt.
    """

    __slots__ = ("_chance", "_hopeless_after", "_length", "_rules", "_surroundings", "_told")

    def __init__(
        self,
        length: timedelta,
        surroundings: Surroundings,
        *,
        rules: RetryRules,
        chance: Callable[[], float],
        hopeless_after: timedelta,
    ) -> None:
        super().__init__(length)
        self._length = length
        self._surroundings = surroundings
        self._rules = rules
        self._chance = chance
        self._hopeless_after = hopeless_after
        self._told = timedelta()

    def page(self, read: Callable[[], Page]) -> Page:
        """Read one page.

        Raises:
            LeaseLost: the find is somebody else's by now.
            Transient, Refused, Hopeless: it cannot be read, however patiently.
        """
        failures = 0
        while True:
            self._begin()
            try:
                return read()
            except Paced as paced:
                wait = paced.wait or timedelta()
            except Transient as fault:
                failures += fault.wait is None
                wait = self._wait_after(fault, failures)
            except Hopeless as fault:
                self._leave_alone(fault)
                wait = timedelta()
            self._surroundings.wait(wait)

    def _begin(self) -> None:
        """Wait while the target is left alone; then the time of this page begins."""
        self._surroundings.wait(timedelta())
        while (rest := self._surroundings.rests_for()) is not None:
            self._surroundings.wait(rest)
        self._at = time.monotonic() + self._length.total_seconds()

    def _wait_after(self, fault: Transient, failures: int) -> timedelta:
        """How long to wait before the page is read again, if it is."""
        if fault.wait is None:
            if self._rules.is_used_up(failures):
                raise fault
            return self._rules.wait_after(failures, chance=self._chance())
        wait = told_wait(fault.wait)
        self._told += wait
        if self._told > LONGEST_PATIENCE:
            raise fault
        self._surroundings.rest(wait)
        return timedelta()

    def _leave_alone(self, fault: Hopeless) -> None:
        """Leave a target alone that lets nobody in; any other hopeless answer stands."""
        if not fault.closes_target:
            raise fault
        if self._surroundings.close(fault.reason, CLOSED_REST) >= self._hopeless_after:
            raise fault


def freeze(adapter: Adapter, query: Mapping[str, Any], *, until: Deadline) -> Mapping[str, Any]:
    """The query as it holds for the whole job. Raises as `Adapter.freeze`, and LeaseLost."""
    return until.page(lambda: adapter.freeze(query, until=until))


def found(adapter: Adapter, query: Mapping[str, Any], *, until: Deadline) -> Iterator[Item]:
    """What a frozen query finds now. Raises as `Adapter.find`, and LeaseLost."""
    yield from adapter.find(query, until=until)
