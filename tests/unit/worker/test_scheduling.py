"""When a standing order is due, above all on the two days on which the clocks are changed."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.scheduling import Schedule, parse_cron

#: Clocks go from 2:00 to 3:00 at 1:00 UTC, and from 3:00 back to 2:00 at 1:00 UTC.
SPRING = datetime(2026, 3, 29, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 25, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MILLISECOND = timedelta(milliseconds=1)


def berlin(cron: str) -> Schedule:
    return Schedule(cron=cron, timezone="Europe/Berlin")


def forward(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """All due moments after `start` and before `end`."""
    at = schedule.next_due(after=start, anchor=start)
    while at is not None and at < end:
        yield at
        at = schedule.next_due(after=at, anchor=start)


def backward(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """The same, from the last to the first."""
    at: datetime | None = end
    while at is not None:
        at = schedule.last_due(since=start, until=at - MILLISECOND, anchor=start)
        if at is not None:
            yield at


def hours(schedule: Schedule, start: datetime, end: datetime) -> list[str]:
    """Due moments as UTC, found going forward and going back."""
    found = list(forward(schedule, start, end))
    assert list(backward(schedule, start, end)) == found[::-1]
    return [f"{at:%d %H:%M}" for at in found]


def test_a_time_in_the_hour_that_is_left_out_is_due_where_it_would_have_begun() -> None:
    found = hours(berlin("30 2 * * *"), SPRING - DAY, SPRING + 2 * DAY)

    assert found == ["28 01:30", "29 01:00", "30 00:30"]


def test_a_time_in_the_hour_that_comes_twice_is_due_once() -> None:
    found = hours(berlin("30 2 * * *"), AUTUMN - DAY, AUTUMN + 2 * DAY)

    assert found == ["24 00:30", "25 00:30", "26 01:30"]


@pytest.mark.parametrize("minutes", range(0, 180, 7))
def test_whenever_it_is_asked_it_is_due_once_in_the_hour_that_comes_twice(minutes: int) -> None:
    now = AUTUMN + timedelta(minutes=minutes)

    last = berlin("30 2 * * *").last_due(since=AUTUMN - 2 * DAY, until=now, anchor=AUTUMN)

    day = AUTUMN if minutes >= 30 else AUTUMN - DAY
    assert last == day + timedelta(minutes=30)


@pytest.mark.parametrize("midnight", [SPRING, AUTUMN])
def test_every_hour_goes_by_the_time_that_passes(midnight: datetime) -> None:
    found = list(forward(berlin("0 * * * *"), midnight - MILLISECOND, midnight + DAY))

    assert found == [midnight + number * HOUR for number in range(24)]


def test_daily_work_is_due_once_on_each_day_of_a_year() -> None:
    year = datetime(2026, 1, 1, tzinfo=UTC)

    for cron in ("15 3 * * *", "30 2 * * *", "0 2 * * *", "59 1 * * *"):
        assert len(hours(berlin(cron), year, year + 365 * DAY)) == 365


def test_an_interval_is_counted_from_its_anchor() -> None:
    anchor = datetime(2026, 1, 1, 10, 7, tzinfo=UTC)
    schedule = Schedule(every=timedelta(hours=6))

    assert hours(schedule, anchor, anchor + DAY) == ["01 16:07", "01 22:07", "02 04:07"]


def test_the_anchor_itself_is_not_due() -> None:
    schedule = Schedule(every=HOUR)

    assert schedule.last_due(since=SPRING - DAY, until=SPRING, anchor=SPRING) is None
    assert schedule.next_due(after=SPRING - 9 * HOUR, anchor=SPRING) == SPRING + HOUR


@pytest.mark.parametrize("schedule", [Schedule(cron="* * * * *"), berlin("*/2 * * * *")])
def test_a_clock_that_was_off_for_years_is_answered_at_once(schedule: Schedule) -> None:
    began = time.perf_counter()

    for _ in range(100):
        last = schedule.last_due(since=SPRING, until=SPRING + 3650 * DAY, anchor=SPRING)

    assert last == SPRING + 3650 * DAY
    assert time.perf_counter() - began < 2


def test_what_was_due_up_to_since_is_not_due_again() -> None:
    nightly = berlin("0 12 * * *")
    noon = datetime(2026, 5, 1, 10, tzinfo=UTC)

    assert nightly.last_due(since=noon - MILLISECOND, until=noon, anchor=noon) == noon
    assert nightly.last_due(since=noon, until=noon + HOUR, anchor=noon) is None
    assert nightly.last_due(since=noon - DAY, until=noon - MILLISECOND, anchor=noon) is None


fields = st.tuples(
    st.sampled_from(["*", "0", "30", "*/15", "7,37", "10-12"]),
    st.sampled_from(["*", "0", "1", "2", "3", "23", "*/6", "1-4", "2,22"]),
    st.sampled_from(["*", "1", "29", "L", "*/7", "10-20"]),
    st.sampled_from(["*", "3", "10", "1,7"]),
    st.sampled_from(["*", "SUN", "1-5", "SAT#2", "7L"]),
)
zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Africa/Cairo"]
)
moments = st.one_of(
    st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.timedeltas(-DAY, 2 * DAY).map(lambda length: SPRING + length),
    st.timedeltas(-DAY, 2 * DAY).map(lambda length: AUTUMN + length),
)


@given(fields.map(" ".join), zones, moments)
def test_going_back_finds_what_going_forward_finds(cron: str, zone: str, moment: datetime) -> None:
    schedule = Schedule(cron=cron, timezone=zone)

    due = schedule.next_due(after=moment, anchor=moment)

    assert due is not None
    assert due > moment
    assert schedule.last_due(since=moment, until=due, anchor=moment) == due
    assert schedule.last_due(since=moment, until=due - MILLISECOND, anchor=moment) is None


@given(st.integers(1, 10**7), st.integers(0, 10**9), st.integers(0, 10**9))
def test_intervals_agree_forward_and_back(seconds: int, start: int, length: int) -> None:
    schedule = Schedule(every=timedelta(seconds=seconds))
    anchor = SPRING + timedelta(milliseconds=start)
    moment = anchor + timedelta(milliseconds=length)

    due = schedule.next_due(after=moment, anchor=anchor)

    assert due is not None
    assert moment < due <= moment + timedelta(seconds=seconds)
    assert schedule.last_due(since=moment, until=due, anchor=anchor) == due
    assert schedule.last_due(since=moment, until=due - MILLISECOND, anchor=anchor) is None


@pytest.mark.parametrize(
    "line", ["0 0 30 2 *", "61 * * * *", "* * * *", "* * * * * *", "a b c d e", "0 0 * * 8", ""]
)
def test_a_line_that_is_none_or_never_due_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_cron(line)


@given(st.text(alphabet="0123456789*/,-#LWMONSATJAN ²٣", max_size=30))
def test_whatever_is_given_is_a_line_or_told_to_be_none(text: str) -> None:
    with suppress(ValueError):
        line = parse_cron(text)
        assert Schedule(cron=line).next_due(after=SPRING, anchor=SPRING) is not None
