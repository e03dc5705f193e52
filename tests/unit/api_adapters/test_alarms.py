"""Alarms ring when their time has come, and not once it is over."""

import threading
import time

import pytest

from api_adapters.errors import Transient
from api_adapters.sql_table import alarms
from api_adapters.sql_table.alarms import Alarms

#: Seconds that are enough for a thread to do its part on a busy machine.
ENOUGH = 20.0


def test_it_rings_while_what_is_inside_still_runs() -> None:
    rung = threading.Event()
    with Alarms().after(0.05, rung.set):
        assert rung.wait(ENOUGH)


def test_it_does_not_ring_once_what_is_inside_has_ended() -> None:
    early, late = threading.Event(), threading.Event()
    every = Alarms()
    with every.after(0.1, early.set):
        pass
    with every.after(0.2, late.set):
        assert late.wait(ENOUGH)
    assert not early.is_set()


def test_an_earlier_one_does_not_wait_for_a_later_one() -> None:
    rung = threading.Event()
    every = Alarms()
    began = time.monotonic()
    with every.after(2 * ENOUGH, list), every.after(0.05, rung.set):
        assert rung.wait(ENOUGH)
    assert time.monotonic() - began < ENOUGH


def test_one_that_breaks_does_not_silence_the_others() -> None:
    rung = threading.Event()
    every = Alarms()

    def breaks() -> None:
        raise OSError("closed meanwhile")

    with every.after(0.05, breaks), every.after(0.1, rung.set):
        assert rung.wait(ENOUGH)


def test_many_ring_at_once_and_one_thread_is_enough() -> None:
    every, rung = Alarms(), threading.Semaphore(0)
    before = threading.active_count()

    def wait() -> None:
        with every.after(0.3, rung.release):
            time.sleep(1)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for one in threads:
        one.start()
    for _ in threads:
        assert rung.acquire(timeout=ENOUGH)
    for one in threads:
        one.join()
    assert threading.active_count() <= before + 1


def test_a_thread_that_cannot_be_started_costs_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    every, rung, stale = Alarms(), threading.Event(), threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Transient) as told, every.after(0.05, stale.set):
            pytest.fail("nothing watches over what is done here")
    with every.after(0.1, rung.set):
        assert rung.wait(ENOUGH)

    assert not told.value.may_have_run
    assert not stale.is_set()


def test_its_thread_ends_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "LINGERS", 0.05)
    before = threading.active_count()
    every = Alarms()
    for _ in range(2):
        rung = threading.Event()
        with every.after(0.01, rung.set):
            assert rung.wait(ENOUGH)
        over = time.monotonic() + ENOUGH
        while threading.active_count() > before and time.monotonic() < over:
            time.sleep(0.01)
        assert threading.active_count() == before
