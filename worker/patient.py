"""Asks for something, and waits for it no longer than one may."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from threading import Lock, Thread
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Patient(Generic[Found]):
    """A question that is asked on a thread of its own, once at a time.

    Whoever asks while it is still out waits for the same answer: a store that
    hangs costs one thread, however often it is asked.
    """

    def __init__(self, ask: Callable[[], Found], *, patience: timedelta) -> None:
        self._ask = ask
        self._patience = patience.total_seconds()
        self._lock = Lock()
        self._asked: Future[Found] | None = None

    def __call__(self) -> Found:
        """The answer. Raises TimeoutError, and what the question raises."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = Future()
                # A process that ends need not wait for what may never come.
                Thread(target=_answer, args=(self._ask, self._asked), daemon=True).start()
            asked = self._asked
        return asked.result(timeout=self._patience)


def _answer(ask: Callable[[], Found], asked: "Future[Found]") -> None:
    try:
        asked.set_result(ask())
    except BaseException as error:  # noqa: BLE001 (it is raised where it was asked)
        asked.set_exception(error)
