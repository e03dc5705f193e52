"""What is promised, as data, and how figures are held against it.

A figure is a series of numbers under a name such as `hundreds.ours.seconds`,
one for each run or for each request. A row is judged by one statistic of one
series, or by that of two series beside each other.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.benchmarks.measures import percentile

Figures = Mapping[str, Sequence[float]]


class Is(StrEnum):
    """Which side of its limit a figure has to be on."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    TOLD = "-"  #: no promise, told for comparison


class By(StrEnum):
    """What is taken of a series."""

    MEDIAN = "median"
    P95 = "p95"
    P99 = "p99"
    MOST = "most"
    LEAST = "least"


class Met(StrEnum):
    """How a row ended."""

    MET = "met"
    MISSED = "missed"
    TOLD = "-"  #: there is no promise
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: what is measured, and what is promised of it."""

    part: str
    what: str
    #: The series that is judged, and the one beside which it is, if any.
    series: str
    over: str | None = None
    by: By = By.MEDIAN
    wanted: Is = Is.TOLD
    limit: float = 0
    #: Of the series; what is judged beside another one has none.
    unit: str = "s"

    @property
    def promise(self) -> str:
        """In words."""
        if self.wanted is Is.TOLD:
            return self.wanted.value
        return f"{self.wanted} {_number(self.limit)} {self._unit}"

    @property
    def _unit(self) -> str:
        return self.unit if self.over is None else "x"


@dataclass(frozen=True, slots=True)
class Judged:
    """A row with what was seen."""

    bar: Bar
    met: Met
    #: What is held against the limit, and what that is made of.
    value: float | None = None
    absolute: tuple[float, ...] = ()
    count: int = 0

    @property
    def seen(self) -> str:
        """In words, such as `1.62 x (11.2 s beside 18.2 s)`."""
        if self.value is None:
            return self.met.value
        by = "" if self.bar.by is By.MEDIAN else f" {self.bar.by}"
        if self.bar.over is None:
            return f"{_number(self.value)} {self.bar.unit}{by}"
        own, other = (f"{_number(one)} {self.bar.unit}" for one in self.absolute)
        return f"{_number(self.value)} x{by} ({own} beside {other})"


_STATISTICS: Mapping[By, Callable[[Sequence[float]], float]] = {
    By.MEDIAN: statistics.median,
    By.P95: lambda series: percentile(series, 0.95),
    By.P99: lambda series: percentile(series, 0.99),
    By.MOST: max,
    By.LEAST: min,
}


def judge(bar: Bar, figures: Figures) -> Judged:
    """Hold a row against what was measured.

    >>> bar = Bar("p", "w", "ours", over="theirs", wanted=Is.AT_MOST, limit=2)
    >>> judged = judge(bar, {"ours": [3.0, 1.0, 2.0], "theirs": [1.0]})
    >>> judged.met.value, judged.seen
    ('met', '2 x (2 s beside 1 s)')
    """
    names = [bar.series] if bar.over is None else [bar.series, bar.over]
    series = [figures.get(name, ()) for name in names]
    if not all(series):
        return Judged(bar, Met.NOT_MEASURED)
    absolute = tuple(_STATISTICS[bar.by](one) for one in series)
    value = absolute[0] if bar.over is None else absolute[0] / absolute[1]
    return Judged(bar, _met(bar, value), value, absolute, len(series[0]))


def _met(bar: Bar, value: float) -> Met:
    match bar.wanted:
        case Is.AT_LEAST:
            return Met.MET if value >= bar.limit else Met.MISSED
        case Is.AT_MOST:
            return Met.MET if value <= bar.limit else Met.MISSED
    return Met.TOLD


def _number(value: float) -> str:
    """Three digits that count, and no more.

    >>> [_number(one) for one in (0.01234, 1.5, 42.42, 123456.7)]
    ['0.0123', '1.5', '42.4', '123,457']
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
