"""Structured queries: conditions on the columns that the configuration names."""

import datetime as dt
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from api_adapters.errors import BadQuery
from api_adapters.settings import Duration, Settings

#: Values of all conditions together: with the keys of one call fewer than
#: SQLite takes in a statement.
MOST_COMPARED = 2_000

_EXPECTED = (
    'expected {"where": [{"column", "op", "value"}], "older_than": {"column", "age"}}, '
    "one of them at least"
)


class Where(Settings):
    """One condition; NULL meets none but `is_null`."""

    column: str
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "is_null", "is_not_null"]
    value: str | int | float | bool | list[str | int] | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Where":
        wants_none, wants_many = self.op.startswith("is_"), self.op == "in"
        is_many = isinstance(self.value, list)
        if wants_none != (self.value is None) or wants_many != is_many or self.value == []:
            raise ValueError("expected a list for in, no value for is_null, else one value")
        return self

    @property
    def length(self) -> int:
        """How many values it takes in a statement."""
        return len(self.value) if isinstance(self.value, list) else 1


class OlderThan(Settings):
    """A moment: an age, which `freeze` turns into the moment it means."""

    column: str
    age: Duration | None = None
    before: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "OlderThan":
        if (self.age is None) == (self.before is None):
            raise ValueError("expected an age")
        return self


class Query(Settings):
    """What rows are to be found."""

    where: list[Where] = Field(default_factory=list)
    older_than: OlderThan | None = None


def parse_query(given: Mapping[str, Any], columns: list[str]) -> Query:
    """Check a query's shape and its columns. Raises BadQuery."""
    try:
        query = Query.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadQuery(f"{_EXPECTED}; {place}: {first['msg']}") from None
    if not query.where and query.older_than is None:
        raise BadQuery(f"{_EXPECTED}: an empty query would find every row")
    if sum(one.length for one in query.where) > MOST_COMPARED:
        raise BadQuery(f"expected at most {MOST_COMPARED} values")
    named = [one.column for one in query.where]
    named += [query.older_than.column] if query.older_than else []
    for name in named:
        if name not in columns:
            raise BadQuery(f"column {name!r} is not in the target's query_columns")
    return query


def frozen(query: Query, now: dt.datetime) -> dict[str, Any]:
    """The same query with its age reckoned from this moment."""
    fixed = query.model_dump(mode="json", exclude_none=True)
    older = query.older_than
    if older is not None and older.age is not None:
        fixed["older_than"] = {"column": older.column, "before": _before(now, older.age)}
    return fixed


def _before(now: dt.datetime, age: timedelta) -> str:
    try:
        return (now - age).isoformat()
    except OverflowError:
        raise BadQuery("expected an age that lies after the year 1") from None
