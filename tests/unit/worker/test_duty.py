"""What one worker process has, and its look that never ends by itself."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import RungBells
from worker import duty as duties
from worker.duty import Duty
from worker.errors import StoreUnavailable
from worker.store.base import Look


class Looked:
    """A store that is looked at; each look does the next of these."""

    def __init__(self, *looks: Look | Exception | None) -> None:
        self._looks = list(looks)
        self.is_done = Event()
        self.came_back = 0

    def come_back(self) -> int:
        self.came_back += 1
        return 0

    def look(self, *, every: timedelta) -> Look | None:
        if not self._looks:
            self.is_done.set()
            return None
        found = self._looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def duty_of(store: Any) -> Duty:
    deployment: Any = SimpleNamespace(store=store, executor=lambda *_, **__: None)
    return Duty(deployment, threads=4, bells=RungBells())


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties, "LOOK_EVERY", timedelta(milliseconds=1))


def looked(store: Looked, act: Callable[[Look], None]) -> None:
    duty = duty_of(store)
    duty.look_regularly(act)
    assert store.is_done.wait(10)
    duty.end()
    assert duty._looker is not None
    assert not duty._looker.is_alive()


def test_what_a_look_finds_is_done() -> None:
    seen: list[Look] = []

    looked(Looked(Look(ring=("crm",)), None, Look(ring=("erp",))), seen.append)

    assert [one.ring for one in seen] == [("crm",), ("erp",)]


def test_no_fault_is_the_last_look_or_tells_its_words(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Look] = []
    faults = (StoreUnavailable("away"), ValueError("somebody"))

    looked(Looked(*faults, Look(ring=("crm",))), seen.append)

    assert len(seen) == 1
    assert "look.broke" in caplog.text
    assert "somebody" not in caplog.text


def test_a_store_that_was_away_is_told_so_once() -> None:
    store = Looked(Look(), StoreUnavailable("away"), None, Look())

    looked(store, lambda _: None)

    assert store.came_back == 1


def test_a_deed_that_breaks_is_not_the_last_one() -> None:
    seen: list[Look] = []

    def act(found: Look) -> None:
        seen.append(found)
        raise ZeroDivisionError

    looked(Looked(Look(), Look()), act)

    assert len(seen) == 2


def test_an_end_before_the_first_look_is_an_end() -> None:
    duty = duty_of(Looked())

    duty.end()

    assert duty.is_ending.is_set()


def test_looks_are_not_in_step() -> None:
    lengths = {duties._jittered(timedelta(seconds=2)) for _ in range(20)}

    assert len(lengths) > 1
    assert all(1.5 <= length <= 2.5 for length in lengths)


def test_a_fork_makes_its_own_duty(monkeypatch: pytest.MonkeyPatch) -> None:
    current = duties._Current()
    first = current.get(lambda: duty_of(Looked()))
    assert current.get(lambda: duty_of(Looked())) is first

    monkeypatch.setattr("os.getpid", lambda: -1)

    assert current.get(lambda: duty_of(Looked())) is not first
