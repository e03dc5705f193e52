"""Threads that want the same at the same time: one of them asks, or waits, for all.

Where they would wait for each other, as all do who claim of one target, the one
that is first asks for those that have come meanwhile too.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock
from typing import Generic, TypeVar

Wish = TypeVar("Wish")
Answer = TypeVar("Answer")


class _Asked(Generic[Wish, Answer]):
    """One wish, and what becomes of it."""

    __slots__ = ("answer", "error", "is_called", "leads", "wish")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.answer: list[Answer] = []
        self.error: BaseException | None = None
        #: Whether whoever waits is to ask for all that wait now.
        self.leads = False
        self.is_called = Event()

    def told(self) -> Answer:
        """What was answered. Raises what whoever asked was told instead."""
        if self.error is not None:
            raise self.error
        return self.answer[0]


class Joined(Generic[Wish, Answer]):
    """Asks for one or for many; to be called by any number of threads."""

    def __init__(
        self,
        ask: Callable[[str, Sequence[Wish]], Sequence[Answer]],
        *,
        lingers: Callable[[Wish], float] = lambda _: 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`ask` is given a name and what is wished under it, and answers each wish.

        Whoever asks `lingers` for so many seconds first, by its own wish: others are
        known to come with it.
        """
        self._ask = ask
        self._lingers = lingers
        self._sleep = sleep
        self._waiting: dict[str, list[_Asked[Wish, Answer]]] = defaultdict(list)
        self._led: set[str] = set()
        self._lock = Lock()

    def __call__(self, name: str, wish: Wish) -> Answer:
        """The answer to one wish. Raises whatever asking for it raised."""
        mine: _Asked[Wish, Answer] = _Asked(wish)
        with self._lock:
            self._waiting[name].append(mine)
            mine.leads = name not in self._led
            self._led.add(name)
        if not mine.leads:
            self._wait(name, mine)
        if mine.leads:
            self._lead(name, mine)
        return mine.told()

    def _wait(self, name: str, mine: _Asked[Wish, Answer]) -> None:
        """Wait until a wish is answered, or is to lead; who breaks that off leaves no gap."""
        try:
            mine.is_called.wait()
        except BaseException:
            self._withdraw(name, mine)
            if mine.leads:
                self._hand_over(name)
            raise

    def _withdraw(self, name: str, mine: _Asked[Wish, Answer]) -> None:
        """Wait no longer, if it still waits."""
        with self._lock:
            if mine in self._waiting[name]:
                self._waiting[name].remove(mine)

    def _lead(self, name: str, mine: _Asked[Wish, Answer]) -> None:
        """Ask for all that wait then, and leave those that come meanwhile to one of them."""
        asked: list[_Asked[Wish, Answer]] = []
        try:
            if seconds := self._lingers(mine.wish):
                self._sleep(seconds)
            with self._lock:
                asked = self._waiting.pop(name)
            answers = self._ask(name, [one.wish for one in asked])
            for one, answer in zip(asked, answers, strict=True):
                one.answer.append(answer)
        except BaseException as error:
            # Else the one who leaves would be called to lead.
            self._withdraw(name, mine)
            for one in asked:
                one.error = error
            raise
        finally:
            self._hand_over(name)
            for one in asked:
                one.is_called.set()

    def _hand_over(self, name: str) -> None:
        """Let the first of those that wait lead, if anybody waits."""
        with self._lock:
            waiting = self._waiting.get(name)
            if not waiting:
                self._led.discard(name)
                return
            waiting[0].leads = True
            waiting[0].is_called.set()


@dataclass(slots=True)
class Vigil:
    """One thread's waiting for all, and whether one of them owes something at its end."""

    owes: bool


class Vigils:
    """Of those who would wait for the same, one does; the others go and leave it to him."""

    def __init__(self) -> None:
        self._kept: dict[str, Vigil] = {}
        self._lock = Lock()

    @contextmanager
    def keep(self, name: str, *, owes: bool) -> Iterator[Vigil | None]:
        """Wait within for what a name stands for; None where somebody does.

        What whoever goes `owes` is owed by the one that waits.
        """
        with self._lock:
            others = self._kept.get(name)
            if others is None:
                mine = self._kept[name] = Vigil(owes)
            else:
                others.owes |= owes
        if others is not None:
            yield None
            return
        try:
            yield mine
        finally:
            with self._lock:
                del self._kept[name]

    def is_kept(self, name: str) -> bool:
        """Whether somebody waits for it, who looks at what is there only after this."""
        with self._lock:
            return name in self._kept


def together(
    ask: Callable[[Sequence[Wish]], Sequence[Answer]],
    wishes: Sequence[Wish],
    *,
    unless: type[Exception],
) -> Sequence[Answer | Exception]:
    """What comes of some wishes; where asking for all fails, each is asked for alone.

    What asking for one raises is its answer, but for what would meet all of
    them alike.

    >>> together(lambda some: [1 / one for one in some], [2, 0], unless=OSError)
    [0.5, ZeroDivisionError('division by zero')]
    """
    try:
        return ask(wishes)
    except unless:
        raise
    except Exception as error:  # noqa: BLE001 (raised where it belongs)
        if len(wishes) == 1:
            return [error]
    return [answer for one in wishes for answer in together(ask, [one], unless=unless)]
