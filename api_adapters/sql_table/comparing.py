"""A query's conditions as SQL; every value is bound."""

import datetime as dt
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, case, column, func, literal, types

from api_adapters.errors import BadQuery
from api_adapters.sql_table.key_table import KeyTable
from api_adapters.sql_table.querying import Query, Where
from api_adapters.sql_table.reflecting import bound_type
from api_adapters.sql_table.values import kind_of, read_decimal

#: How a date begins that was written as one: SQLite would read any number, and
#: a time of day, as a date as well.
_WRITTEN = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"


def condition(query: Query, table: KeyTable) -> ColumnElement[bool]:
    """The condition of a query. Raises BadQuery."""
    parts = [_condition(one, table) for one in query.where]
    if query.older_than is not None and query.older_than.before is not None:
        moment = _utc(query.older_than.before, "older_than.before: expected a moment")
        parts.append(_is_older(table.columns[query.older_than.column], moment, table.dialect))
    return and_(*parts)


def _condition(one: Where, table: KeyTable) -> ColumnElement[bool]:
    declared = table.columns[one.column]
    match one.op:
        case "is_null":
            return column(one.column).is_(None)
        case "is_not_null":
            return column(one.column).is_not(None)
    own = _compared(declared, table.dialect)
    if isinstance(one.value, list):
        return own.in_([_value(declared, value, table.dialect) for value in one.value])
    return own.bool_op(one.op)(_value(declared, one.value, table.dialect))


def _compared(declared: Column[Any], dialect: str) -> ColumnElement[Any]:
    """A column as it is compared: SQLite's dates as the moments that their texts say."""
    if dialect == "sqlite" and isinstance(declared.type, types.Date | types.DateTime):
        return _moment(declared)
    return column(declared.name, _type(declared, dialect))


def _value(declared: Column[Any], given: Any, dialect: str) -> ColumnElement[Any]:
    """A value that the column can be compared with. Raises BadQuery."""
    is_text = isinstance(given, str | int | float) and not isinstance(given, bool)
    match declared.type:
        case types.Boolean() if isinstance(given, bool):
            return literal(given)
        case types.Date() | types.DateTime() if dialect == "sqlite" and is_text:
            expected = f"column {declared.name!r}: expected a date or a moment"
            return _bound(declared, _utc(str(given), expected))
        case types.Float() if is_text and not isinstance(given, str):
            return literal(float(given))
    read, expected = _reader(declared, dialect)
    if read is None or not is_text:
        raise BadQuery(f"column {declared.name!r} cannot be compared with such a value")
    try:
        return literal(read(str(given)), _type(declared, dialect))
    except (ValueError, ArithmeticError, OverflowError):
        raise BadQuery(f"column {declared.name!r}: expected {expected}") from None


def _reader(declared: Column[Any], dialect: str) -> tuple[Any, str]:
    """How a text is read for a column; None for what has no text."""
    if _is_sqlite_number(declared, dialect):
        return (lambda text: float(read_decimal(text))), "a number"
    kind = kind_of(declared, dialect)
    return (kind.read, kind.expected) if kind else (None, "")


def _type(declared: Column[Any], dialect: str) -> Any:
    """SQLite keeps decimals as what they are compared as: floats."""
    is_number = _is_sqlite_number(declared, dialect)
    return types.Float() if is_number else bound_type(declared, dialect)


def _is_sqlite_number(declared: Column[Any], dialect: str) -> bool:
    is_float = isinstance(declared.type, types.Float)
    return dialect == "sqlite" and isinstance(declared.type, types.Numeric) and not is_float


def _is_older(declared: Column[Any], moment: dt.datetime, dialect: str) -> ColumnElement[bool]:
    """Whether a column of dates lies before a moment; a date does once its whole day does."""
    if dialect == "sqlite" and _may_hold_dates(declared):
        return _moment(declared) < _bound(declared, moment)
    naive = moment.replace(tzinfo=None)
    own = column(declared.name, declared.type)
    match declared.type:
        case types.Date():
            return own < literal(naive.date(), declared.type)
        case types.DateTime(timezone=True):
            return own < literal(moment, declared.type)
        case types.DateTime():
            return own < literal(naive, declared.type)
    raise BadQuery(f"older_than: column {declared.name!r} holds no date or moment")


def _may_hold_dates(declared: Column[Any]) -> bool:
    """Whether SQLite keeps texts in it: it has no type for dates, and any name for one."""
    is_named = isinstance(declared.type, types.Date | types.DateTime | types.String)
    return is_named or _is_sqlite_number(declared, "sqlite")


def _moment(declared: Column[Any]) -> ColumnElement[Any]:
    """What the text in a column of SQLite says; NULL where it says no date."""
    own = column(declared.name, types.String())
    return case((own.op("GLOB")(_WRITTEN), _reckoned(declared, own)))


def _bound(declared: Column[Any], moment: dt.datetime) -> ColumnElement[Any]:
    text = moment.replace(tzinfo=None).isoformat(" ", "milliseconds")
    return _reckoned(declared, literal(text, types.String()))


def _reckoned(declared: Column[Any], text: ColumnElement[Any]) -> ColumnElement[Any]:
    """Compared as moments, since a text has more than one way to say one."""
    is_date = isinstance(declared.type, types.Date)
    return func.date(text) if is_date else func.julianday(text)


def _utc(text: str, expected: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise BadQuery(expected) from None
