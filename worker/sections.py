"""The tables of deletions.toml that are not targets."""

import math
from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from api_adapters.settings import Duration, Settings, parse_duration
from worker.scheduling import parse_cron


def parse_retention(given: Any) -> timedelta | None:
    """Read how long to keep; `None` is for ever, which has to be written out.

    >>> parse_retention("30d")
    datetime.timedelta(days=30)
    >>> parse_retention("forever") is None
    True
    """
    if given == "forever":
        return None
    try:
        return parse_duration(given)
    except ValueError as error:
        raise ValueError(f'{error}, or "forever"') from None


def check_timezone(name: str) -> str:
    """Check that a time zone is known here."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError('expected a time zone such as "Europe/Berlin" or "UTC"') from None
    return name


def check_query(query: dict[str, Any]) -> dict[str, Any]:
    """Check that a query asks for something and can be kept as JSON."""
    if not query:
        raise ValueError("expected a query that asks for something, it is empty")
    _check_json(query)
    return query


def _check_json(value: Any) -> None:
    match value:
        case dict():
            for inner in value.values():
                _check_json(inner)
        case list():
            for inner in value:
                _check_json(inner)
        case float() if not math.isfinite(value):
            raise ValueError("expected finite numbers, found inf or nan")
        case bool() | int() | float() | str():
            pass
        case _:
            raise ValueError('expected dates and times as text in quotes, such as "2030-01-31"')


class StoreSettings(Settings):
    """`[store]`: how long settled jobs keep their items; `None` is for ever."""

    retain_for: Annotated[timedelta | None, BeforeValidator(parse_retention)] = timedelta(days=30)


class PurgeSettings(Settings):
    """`[purges.NAME]`: a query on a target, on a schedule: one of `cron` and `every`."""

    target: str
    query: Annotated[dict[str, Any], AfterValidator(check_query)]
    cron: Annotated[str, AfterValidator(parse_cron)] | None = None
    every: Duration | None = None
    timezone: Annotated[str, AfterValidator(check_timezone)] = "UTC"
    catch_up: Literal["last", "none"] = "last"
    overlap: Literal["skip", "queue"] = "skip"
    max_items: int | None = Field(default=None, ge=1)
    alert_after: Duration | None = None
    enabled: bool = True
    trusted: bool = False


class NotifySettings(Settings):
    """`[notify.NAME]`: a Celery task that is sent when a job settles."""

    task: str = Field(min_length=1)
    queue: str = Field(min_length=1)
