"""Structured queries: conditions on the columns that the configuration names."""

import datetime as dt
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from sqlalchemy import Column, ColumnElement, and_, column, func, literal, types

from api_adapters.errors import BadQuery
from api_adapters.settings import Duration, Settings
from api_adapters.sql_table.reflecting import KeyTable
from api_adapters.sql_table.values import kind_of

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


def condition(query: Query, table: KeyTable) -> ColumnElement[bool]:
    """The condition as SQL; every value is bound. Raises BadQuery."""
    parts = [_condition(one, table) for one in query.where]
    if query.older_than is not None and query.older_than.before is not None:
        moment = _parsed(query.older_than.before)
        parts.append(_is_older(table.columns[query.older_than.column], moment, table.dialect))
    return and_(*parts)


def _condition(one: Where, table: KeyTable) -> ColumnElement[bool]:
    declared = table.columns[one.column]
    own: ColumnElement[Any] = column(one.column, declared.type)
    if isinstance(one.value, list):
        return own.in_([_value(declared, value, table.dialect) for value in one.value])
    match one.op:
        case "is_null":
            return own.is_(None)
        case "is_not_null":
            return own.is_not(None)
    return own.bool_op(one.op)(literal(_value(declared, one.value, table.dialect), declared.type))


def _value(declared: Column[Any], given: Any, dialect: str) -> Any:
    """A value that the column can be compared with. Raises BadQuery."""
    match declared.type, given:
        case types.Boolean(), bool():
            return given
        case types.Float(), int() | float() if not isinstance(given, bool):
            return float(given)
    kind = kind_of(declared, dialect)
    is_text = isinstance(given, str | int | float) and not isinstance(given, bool)
    if kind is None or not is_text:
        raise BadQuery(f"column {declared.name!r} cannot be compared with such a value")
    try:
        return kind.read(str(given))
    except (ValueError, ArithmeticError, OverflowError):
        raise BadQuery(f"column {declared.name!r}: expected {kind.expected}") from None


def _is_older(declared: Column[Any], moment: dt.datetime, dialect: str) -> ColumnElement[bool]:
    """Whether a column of dates lies before a moment."""
    if not isinstance(declared.type, types.DateTime | types.Date):
        raise BadQuery(f"older_than: column {declared.name!r} holds no date or moment")
    if dialect == "sqlite":
        # Compared as moments, since a text has more than one way to say one.
        own: ColumnElement[Any] = column(declared.name, types.String())
        return func.julianday(own) < func.julianday(moment.strftime("%Y-%m-%d %H:%M:%S.%f"))
    naive = moment.replace(tzinfo=None)
    match declared.type:
        case types.Date():
            return column(declared.name, declared.type) < literal(naive.date(), declared.type)
        case types.DateTime(timezone=True):
            return column(declared.name, declared.type) < literal(moment, declared.type)
    return column(declared.name, declared.type) < literal(naive, declared.type)


def _parsed(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery("older_than.before: expected a moment") from None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
