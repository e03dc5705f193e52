"""A table as the adapter knows it: what a key stands for, and which rows are meant."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Delete,
    Integer,
    String,
    TableClause,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    delete,
    literal,
    tuple_,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.dml import ReturningDelete

from api_adapters.base import Item
from api_adapters.errors import Hopeless
from api_adapters.sql_table.values import Kind, array_text

#: The types of which a list is compared as each of its values would be: a CHAR's
#: blanks, say, count for nothing beside a CHAR alone.
_IN_ARRAYS = (Integer, Uuid, Text)

#: How statements are written that go to the driver as they are.
PSYCOPG = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy publishes no type of it

#: The parameter of `KeyTable.is_wanted`.
_WANTED = "wanted"


@dataclass(frozen=True)
class KeyTable:
    """A table as the adapter knows it."""

    table: TableClause
    key: tuple[ColumnElement[Any], ...]
    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    #: The columns that a query may name, as they were declared.
    columns: Mapping[str, Column[Any]]
    dialect: str

    @property
    def is_single(self) -> bool:
        """Whether one column is the key: its values stand alone, else in tuples."""
        return len(self.key) == 1

    def value_of(self, key: str) -> Any:
        """The value of a key. Raises Unholdable."""
        if self.is_single:
            return self.kinds[0].value(key)
        texts = json.loads(key)
        return tuple(kind.value(text) for kind, text in zip(self.kinds, texts, strict=True))

    def integers_of(self, items: Mapping[str, Item]) -> Mapping[str, int] | None:
        """The values of keys of one integer column, all at once; None where one is not of it."""
        if not self.is_single or not self.kinds[0].is_integer or not items:
            return None
        try:
            values = _integers(items)
            # All of the others lie between them.
            self.kinds[0].value(str(min(values.values())))
            self.kinds[0].value(str(max(values.values())))
        except ValueError:
            return None
        return values

    def key_of(self, value: Any) -> str:
        """The key of a value."""
        if self.is_single:
            return self.kinds[0].write(value)
        return key_text([kind.write(one) for kind, one in zip(self.kinds, value, strict=True)])

    def item_of(self, values: Sequence[Any]) -> Item:
        """A row's values as an item.

        Raises:
            Hopeless: there are none; whatever else stands there could, written
                as text, be the key of another row.
        """
        if not all(map(Kind.holds, self.kinds, values)):
            raise Hopeless(
                "a row that the query finds has no key that can be named: NULL, or what its "
                "column is not for; narrow the query",
                may_have_run=False,
            )
        written: list[int | str] = [
            int(one) if kind.is_integer else kind.write(one)
            for kind, one in zip(self.kinds, values, strict=True)
        ]
        return written[0] if len(written) == 1 else dict(zip(self.names, written, strict=True))

    def wanted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of `is_wanted`, for rows with these values, by key."""
        # Of a type that takes one, a value is written in an array as in its key.
        wanted = array_text(list(values)) if self.takes_array else list(values.values())
        return {_WANTED: wanted}

    @cached_property
    def is_wanted(self) -> ColumnElement[bool]:
        """The condition that a row is one of those wanted; made once, as statements are."""
        if self.takes_array:
            # One parameter: a thousand take longer to send than their rows to delete.
            array = cast(bindparam(_WANTED, type_=Text()), ARRAY(self.key[0].type))
            return self.key[0] == any_(array)
        own = self.order[0] if self.is_single else tuple_(*self.order)
        return own.in_(bindparam(_WANTED, expanding=True))

    def delete(
        self,
        connection: Connection,
        values: Mapping[str, Any],
        matching: ColumnElement[bool] | None = None,
    ) -> set[Any]:
        """Delete rows with these values that match; the values of those that were there.

        Raises:
            Hopeless: nobody can tell which they were.
        """
        if self.takes_array and matching is None:
            # What SQLAlchemy does for a statement and a row takes as long as the driver's part;
            # of these types the driver's values are those that are meant.
            found = connection.exec_driver_sql(self._deletion_text, self.wanted(values))
            _check_told(found)
            return _distinct([value for (value,) in found.cursor.fetchall()])
        statement = self._deletion if matching is None else self._deletion.where(matching)
        found = connection.execute(statement, self.wanted(values))
        _check_told(found)
        return _distinct(found.scalars().all() if self.is_single else list(map(tuple, found.all())))

    @property
    def plain_deletion(self) -> Delete:
        """The deletion of the rows wanted, of which nothing is told."""
        return delete(self.table).where(self.is_wanted)

    @cached_property
    def _deletion(self) -> ReturningDelete[Any]:
        return self.plain_deletion.returning(*self.key)

    @cached_property
    def _deletion_text(self) -> str:
        return str(self._deletion.compile(dialect=PSYCOPG))

    @property
    def takes_array(self) -> bool:
        """Whether the keys of the rows wanted are one array."""
        is_able = self.is_single and self.dialect == "postgresql"
        return is_able and isinstance(self.key[0].type, _IN_ARRAYS)

    def is_beyond(self, values: tuple[Any, ...]) -> ColumnElement[bool]:
        """The condition that a row comes after this key."""
        bound = [literal(one, own.type) for one, own in zip(values, self.key, strict=True)]
        if self.is_single:
            return self.order[0] > bound[0]
        return tuple_(*self.order) > tuple_(*bound)

    @property
    def order(self) -> tuple[ColumnElement[Any], ...]:
        """What puts the rows in an order in which no two are equal."""
        return tuple(map(self._exactly, self.key))

    def _exactly(self, own: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column that SQLite may have been told to compare without case."""
        is_text = self.dialect == "sqlite" and isinstance(own.type, String)
        return own.collate("BINARY") if is_text else own


def _check_told(found: CursorResult[Any]) -> None:
    """See that the rows are told, which an INSTEAD rule, say, may do without."""
    if not found.returns_rows:
        raise Hopeless(
            "the database does not tell which rows it deleted: a rule does something else",
            may_have_run=False,
        )


def _distinct(values: Sequence[Any]) -> set[Any]:
    """See that every row had a key of its own: a table's children share no index with it."""
    distinct = set(values)
    if len(distinct) < len(values):
        raise Hopeless(
            "the key names several rows: name the tables that inherit from it, one by one",
            may_have_run=False,
        )
    return distinct


def _integers(items: Mapping[str, Item]) -> Mapping[str, int]:
    """What keys stand for. Raises ValueError: one of them is no integer in its usual spelling."""
    if set(map(type, items.values())) == {int}:
        # The key of an integer is its digits.
        values: Any = items
        return values  # type: ignore[no-any-return]  # all of them are integers
    read = dict(zip(items, map(int, items), strict=True))
    if list(map(str, read.values())) != list(read):
        raise ValueError
    return read


def key_text(texts: Sequence[str]) -> str:
    """The key of a row from the texts of its values."""
    return texts[0] if len(texts) == 1 else json.dumps(texts, separators=(",", ":"))
