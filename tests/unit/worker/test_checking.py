"""What is well and what is not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.factories import MINUTE, SECOND
from worker.breaking import Circuit
from worker.checking import Check, Health, check_clock, check_progress, unclaimed_for
from worker.store.base import Backlog, Measures, TargetNote

WAITING = Backlog(ready=3, oldest=MINUTE * 5)


def progress(backlog: Backlog, **more: timedelta) -> Check:
    return check_progress(Measures({"crm": backlog}, **more))


@pytest.mark.parametrize(("ticked", "is_ok"), [(0, True), (15, True), (16, False), (3600, False)])
def test_a_clock_may_lag_for_three_ticks(ticked: int, is_ok: bool) -> None:  # noqa: FBT001
    assert check_clock(SECOND * ticked).is_ok is is_ok


def test_a_clock_that_never_ticked_is_told_as_such() -> None:
    told = check_clock(None)

    assert not told.is_ok
    assert "no clock has ever ticked" in told.message


def test_ready_work_that_nobody_comes_for_is_told_with_its_target() -> None:
    told = progress(WAITING)

    assert not told.is_ok
    assert "'crm' for 300 s" in told.message


def test_a_large_job_whose_batches_are_ready_for_hours_is_well() -> None:
    assert progress(replace(WAITING, oldest=timedelta(hours=9), answered=SECOND)).is_ok


def test_a_bell_that_nobody_has_answered_for_long_is_told() -> None:
    told = progress(replace(WAITING, answered=MINUTE * 2))

    assert "120 s" in told.message


@pytest.mark.parametrize(
    "note",
    [
        TargetNote(rests_for=SECOND),
        TargetNote(closed_reason="the token is wrong"),
        TargetNote(circuit=Circuit(5, 1)),
        TargetNote(live_leases=1),
    ],
)
def test_what_is_held_back_or_worked_on_waits_for_nobody(note: TargetNote) -> None:
    assert unclaimed_for(replace(WAITING, note=note)) == timedelta()


def test_nothing_ready_is_nothing_to_wait_for() -> None:
    told = progress(Backlog(ready=2, leased=1))

    assert told.is_ok
    assert told.message == "2 batches are ready, 1 are being worked on"


@pytest.mark.parametrize(("seconds", "is_ok"), [(30, True), (31, False)])
def test_a_lost_lease_is_taken_over_in_time(seconds: int, is_ok: bool) -> None:  # noqa: FBT001
    assert progress(Backlog(), lost_for=SECOND * seconds).is_ok is is_ok


def test_health_is_told_in_its_shape() -> None:
    checks = (Check("store", is_ok=True, message="fine"), check_clock(None))

    told = Health(checks).as_json()

    assert told["healthy"] is False
    assert told["checks"][0] == {"name": "store", "ok": True, "message": "fine"}
