"""Looks at a table: its key, what the key's columns hold, and whether it is one."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    TableClause,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    column,
    delete,
    inspect,
    literal,
    table,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.dml import ReturningDelete

from api_adapters.base import Item
from api_adapters.errors import Hopeless
from api_adapters.sql_table.settings import SqlTableSettings
from api_adapters.sql_table.values import Kind, array_text, kind_of

#: An expression in an index has no name, and is no column of the key.
_SQLITE_UNIQUE = text(
    "SELECT l.name, i.name FROM pragma_index_list(:name, :schema) AS l,"
    ' pragma_index_info(l.name, :schema) AS i WHERE l."unique" AND NOT l.partial'
)


#: The types of which a list is compared as each of its values would be: a CHAR's
#: blanks, say, count for nothing beside a CHAR alone.
_IN_ARRAYS = (Integer, Uuid, Text)

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
        wanted = array_text(list(values)) if self._takes_array else list(values.values())
        return {_WANTED: wanted}

    @cached_property
    def is_wanted(self) -> ColumnElement[bool]:
        """The condition that a row is one of those wanted; made once, as statements are."""
        if self._takes_array:
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
        """Delete rows with these values that match; the values of those that were there."""
        if self._takes_array and matching is None:
            # What SQLAlchemy does for a statement and a row takes as long as the driver's part;
            # of these types the driver's values are those that are meant.
            found = connection.exec_driver_sql(self._deletion_text, self.wanted(values))
            return {value for (value,) in found.cursor.fetchall()}
        statement = self._deletion if matching is None else self._deletion.where(matching)
        rows = connection.execute(statement, self.wanted(values))
        return set(rows.scalars().all() if self.is_single else map(tuple, rows.all()))

    @cached_property
    def _deletion(self) -> ReturningDelete[Any]:
        return delete(self.table).where(self.is_wanted).returning(*self.key)

    @cached_property
    def _deletion_text(self) -> str:
        dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
        return str(self._deletion.compile(dialect=dialect))

    @property
    def _takes_array(self) -> bool:
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


def reflect(connection: Connection, settings: SqlTableSettings) -> KeyTable:
    """Look at the table. Raises Hopeless: it is not as it was configured."""
    wanted = [*settings.key, *settings.query_columns]
    found = _columns(connection, settings, wanted)
    if missing := [name for name in wanted if name not in found]:
        raise _wrong(settings, f"has no column {', '.join(missing)}: change key or query_columns")
    if not any(one and one <= set(settings.key) for one in _unique_sets(connection, settings)):
        raise _wrong(settings, "is not unique by its key: name a primary key or a unique index")
    dialect = connection.dialect.name
    kinds = [_kind(found[name], dialect, settings) for name in settings.key]
    columns = [column(name, bound_type(found[name], dialect)) for name in wanted]
    return KeyTable(
        table=table(settings.table, *columns, schema=settings.schema_name),
        key=tuple(columns[: len(kinds)]),
        names=tuple(settings.key),
        kinds=tuple(kinds),
        columns={name: found[name] for name in settings.query_columns},
        dialect=dialect,
    )


def _columns(
    connection: Connection, settings: SqlTableSettings, wanted: Sequence[str]
) -> Mapping[str, Column[Any]]:
    with warnings.catch_warnings():
        # A type that SQLAlchemy does not know is told by `_kind`.
        warnings.simplefilter("ignore")
        try:
            found = Table(
                settings.table,
                MetaData(),
                schema=settings.schema_name,
                include_columns=list(dict.fromkeys(wanted)),
                resolve_fks=False,
                autoload_with=connection,
            )
        except NoSuchTableError as error:
            raise _wrong(settings, "is not there: change table, schema or url") from error
    return {one.name: one for one in found.columns}


def _unique_sets(connection: Connection, settings: SqlTableSettings) -> list[set[Any]]:
    """The columns of each key; one that may name several rows is none."""
    place = {"schema": settings.schema_name}
    inspector = inspect(connection)
    sets: list[set[Any]] = [
        set(inspector.get_pk_constraint(settings.table, **place)["constrained_columns"])
    ]
    if connection.dialect.name == "sqlite":
        return sets + _sqlite_unique_sets(connection, settings)
    constraints = inspector.get_unique_constraints(settings.table, **place)
    sets += [set(one["column_names"]) for one in constraints]
    for index in inspector.get_indexes(settings.table, **place):
        is_partial = "postgresql_where" in index.get("dialect_options", {})
        if index["unique"] and not is_partial:
            sets.append({*index["column_names"]})
    return sets


def _sqlite_unique_sets(connection: Connection, settings: SqlTableSettings) -> list[set[Any]]:
    """Asked of SQLite itself: SQLAlchemy reads them out of the table's text, and not all."""
    place = {"name": settings.table, "schema": settings.schema_name or "main"}
    sets: dict[str, set[Any]] = {}
    for index, name in connection.execute(_SQLITE_UNIQUE, place):
        sets.setdefault(index, set()).add(name)
    return list(sets.values())


def _kind(own: Column[Any], dialect: str, settings: SqlTableSettings) -> Kind:
    kind = kind_of(own, dialect)
    if kind is None:
        what = f"cannot be deleted by {own.name}, which is {own.type!r}"
        raise _wrong(settings, f"{what}: name another unique key")
    return kind


def bound_type(own: Column[Any], dialect: str) -> Any:
    """How values are sent: SQLite's dates and UUIDs as the text they are kept as."""
    kind = kind_of(own, dialect)
    return String() if dialect == "sqlite" and kind and kind.expected == "text" else own.type


def _wrong(settings: SqlTableSettings, fault: str) -> Hopeless:
    return Hopeless(f"table {settings.table} {fault}", may_have_run=False, closes_target=True)
