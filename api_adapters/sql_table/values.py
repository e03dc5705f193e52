"""How the values of a column are written as text, one spelling a value.

Texts are what keys are made of. Whatever has another spelling than the one
that is written here is rejected, so that two keys are never one row: nothing
can be deleted twice, or slip past a protected key, by being spelled otherwise.
"""

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import Column, types

#: The largest integers of the integer types, by their name in SQL.
_MOST = {"SMALLINT": 2**15, "INTEGER": 2**31, "BIGINT": 2**63}
_LONGEST_INTEGER = 20


class Unholdable(ValueError):
    """A value that a column cannot hold; the message says what it holds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column holds, and how it is read from text and written as text."""

    expected: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    #: What the driver gives for it; nothing else in that column is a key.
    type: type = str

    @property
    def is_integer(self) -> bool:
        """Whether a value is an integer in JSON."""
        return self.type is int

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these; SQLite keeps any value in any column."""
        return isinstance(value, self.type)

    def value(self, text: str) -> Any:
        """The value of a text. Raises Unholdable."""
        try:
            value = self.read(text)
            is_usual = self.write(value) == text
        except (ValueError, ArithmeticError, OverflowError):
            is_usual = False
        if not is_usual:
            raise Unholdable(f"expected {self.expected}")
        return value


def kind_of(column: Column[Any], dialect: str) -> Kind | None:
    """What a column holds; None for what cannot be told apart safely.

    A float is not equal to its text, and a type that ignores case would delete
    what was not named.
    """
    match column.type:
        case types.Boolean() | types.Float():
            return None
        case types.Integer() as integer:
            name = "BIGINT" if dialect == "sqlite" else integer.__visit_name__.upper()
            return _integer(_MOST[name])
        case types.Enum(enums=labels):
            return Kind("a label of its type", _one_of(labels), str)
        case types.String() as text if column.type.__class__.__name__ != "CITEXT":
            return _text(text, dialect)
        case types.LargeBinary():
            return Kind("bytes as hex digits in lower case", bytes.fromhex, bytes.hex, bytes)
    return _sqlite_kind(column) if dialect == "sqlite" else _postgresql_kind(column)


def array_text(texts: Sequence[str]) -> str:
    r"""Values, each in its own text, as PostgreSQL writes an array of them.

    The driver takes as long for a list as the server takes to delete its rows.

    >>> print(array_text(["1", "2"]), array_text(["one", 'the "second"']))
    {"1","2"} {"one","the \"second\""}
    """
    inside = '","'.join(texts)
    if "\\" in inside or inside.count('"') != 2 * (len(texts) - 1):
        escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
        inside = '","'.join(escaped)
    return f'{{"{inside}"}}' if texts else "{}"


def _postgresql_kind(column: Column[Any]) -> Kind | None:
    match column.type:
        case types.Uuid():
            return Kind("a UUID in lower case with hyphens", uuid.UUID, str, uuid.UUID)
        case types.Numeric():
            return Kind("a decimal number without padding", read_decimal, _plain, Decimal)
        case types.DateTime(timezone=True):
            return Kind("a moment such as 2026-01-31T12:00:00+00:00", _moment, _utc, dt.datetime)
        case types.DateTime():
            said = "a moment such as 2026-01-31T12:00:00"
            return Kind(said, _naive, dt.datetime.isoformat, dt.datetime)
        case types.Date():
            said = "a date such as 2026-01-31"
            return Kind(said, dt.date.fromisoformat, dt.date.isoformat, dt.date)
        case types.Time(timezone=False):
            said = "a time such as 12:00:00"
            return Kind(said, dt.time.fromisoformat, dt.time.isoformat, dt.time)
    return None


def _integer(limit: int) -> Kind:
    def read(text: str) -> int:
        if len(text) > _LONGEST_INTEGER:
            raise ValueError
        value = int(text)
        if not -limit <= value < limit:
            raise ValueError
        return value

    return Kind(f"an integer from {-limit} to {limit - 1}", read, str, int)


def _text(column: types.String, dialect: str) -> Kind:
    is_padded = isinstance(column, types.CHAR) and dialect == "postgresql"
    length = column.length if dialect == "postgresql" else None

    def read(text: str) -> str:
        has_nul = "\0" in text and dialect == "postgresql"
        if has_nul or (length is not None and len(text) > length):
            raise ValueError
        return text

    most = f" of at most {length} characters" if length is not None else ""
    # PostgreSQL pads what it keeps in a CHAR with blanks that count for nothing.
    return Kind(f"text{most}", read, (lambda text: text.rstrip(" ")) if is_padded else str)


def _sqlite_kind(column: Column[Any]) -> Kind | None:
    """SQLite keeps dates and UUIDs as the text that somebody wrote."""
    declared = getattr(column.type, "__visit_name__", "").upper()
    is_date = isinstance(column.type, types.Date | types.DateTime | types.Time)
    return Kind("text", str, str) if is_date or declared == "UUID" else None


def _one_of(labels: list[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in labels:
            raise ValueError
        return text

    return read


def read_decimal(text: str) -> Decimal:
    """A finite number. Raises ValueError."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    if not value.is_finite() or abs(value.adjusted()) > 1_000:
        raise ValueError
    return value


def _plain(value: Decimal) -> str:
    """As few digits as say it: 12.50 and 12.5 are one number."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text


def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat()


def _naive(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError
    return moment
