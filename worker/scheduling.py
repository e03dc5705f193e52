"""When a standing order is due: at the moments of a cron line, or at a fixed interval.

Both ways of asking start at the moment that is asked for and never count what
lies between, so a clock that was off for a year is answered as fast as one that
was off for a second.

At the changes of daylight-saving time a cron line means what Debian's cron
makes of it: a fixed time in the hour that is left out is due where that hour
would have begun, one in the hour that comes twice is due the first time only;
a line whose minute or hour begins with `*` goes by the time that really passes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_SECOND = timedelta(seconds=1)
_UNITS = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_SOME_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Due moments: those of a cron line in a time zone, else every so often.

    >>> nightly = Schedule(cron="15 3 * * *", timezone="Europe/Berlin")
    >>> noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    >>> str(nightly.last_due(since=noon - timedelta(days=9), until=noon, anchor=noon))
    '2026-07-01 01:15:00+00:00'
    >>> str(nightly.next_due(after=noon, anchor=noon))
    '2026-07-02 01:15:00+00:00'
    """

    cron: str | None = None
    every: timedelta | None = None
    timezone: str = "UTC"

    def last_due(self, *, since: datetime, until: datetime, anchor: datetime) -> datetime | None:
        """The last due moment after `since` and not after `until`, in UTC, or None.

        An interval is counted from `anchor`, which itself is not due.
        """
        found = self._last_of_interval(until, anchor) if self.every else self._last_of_cron(until)
        return found if found is not None and found > since else None

    def next_due(self, *, after: datetime, anchor: datetime) -> datetime | None:
        """The first due moment after a moment, in UTC; None where there is none any more."""
        if self.every:
            return anchor + self.every * max(1, (after - anchor) // self.every + 1)
        # In the hour that comes twice the parser goes by the hands of the
        # clock, and its first answer may lie before what was asked.
        return next((due for due in self._moments(after) if due > after), None)

    def __str__(self) -> str:
        """As a person would write it.

        >>> str(Schedule(every=timedelta(hours=36))), str(Schedule(cron="0 3 * * *"))
        ('every 36h', '0 3 * * * UTC')
        """
        if self.every is None:
            return f"{self.cron} {self.timezone}"
        seconds = int(self.every.total_seconds())
        unit, size = next(one for one in _UNITS if seconds % one[1] == 0)
        return f"every {seconds // size}{unit}"

    def _last_of_interval(self, until: datetime, anchor: datetime) -> datetime | None:
        times = (until - anchor) // (self.every or timedelta.max)
        return anchor + (self.every or timedelta()) * times if times > 0 else None

    def _last_of_cron(self, until: datetime) -> datetime | None:
        # Going back, the parser misses moments near a change of the clocks. What
        # is due is what going forward says; going back finds where to begin.
        for start in self._moments(until + _SECOND, back=True):
            ahead = takewhile(lambda due: due <= until, self._moments(start - _SECOND))
            if (last := max(ahead, default=None)) is not None:
                return last
        return None

    def _moments(self, start: datetime, *, back: bool = False) -> Iterator[datetime]:
        """Due moments from here on, or back, in UTC."""
        local = start.replace(microsecond=0).astimezone(ZoneInfo(self.timezone))
        for due in CronSim(self.cron or "", local, reverse=back):
            yield due.astimezone(UTC)


def parse_cron(text: str) -> str:
    """Check a cron line of five fields; a line that is never due is none.

    >>> parse_cron("15  3 * * MON-FRI")
    '15 3 * * MON-FRI'
    >>> parse_cron("15 25 * * *")
    Traceback (most recent call last):
    ValueError: expected a cron line such as "15 3 * * *": bad hour

    Raises:
        ValueError: with what was expected, and nothing of what was given.
    """
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(
            'expected five fields, minute hour day month weekday, such as "15 3 * * *"'
        )
    line = " ".join(fields)
    try:
        first = next(CronSim(line, _SOME_MOMENT), None)
    except CronSimError as error:
        raise ValueError(f'expected a cron line such as "15 3 * * *": {error}'.lower()) from None
    if first is None:
        raise ValueError("expected a cron line that is due at some time, this one never is")
    return line
