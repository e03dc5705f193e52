"""Looks at a table: its key, what the key's columns hold, and whether it is one."""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Inspector,
    MetaData,
    String,
    Table,
    TableClause,
    column,
    inspect,
    literal,
    table,
    tuple_,
)
from sqlalchemy.exc import NoSuchTableError

from api_adapters.base import Item
from api_adapters.errors import Hopeless
from api_adapters.sql_table.settings import SqlTableSettings
from api_adapters.sql_table.values import Kind, kind_of


@dataclass(frozen=True, slots=True)
class KeyTable:
    """A table as the adapter knows it."""

    table: TableClause
    key: tuple[ColumnElement[Any], ...]
    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    #: The columns that a query may name, as they were declared.
    columns: Mapping[str, Column[Any]]
    dialect: str

    def values_of(self, key: str) -> tuple[Any, ...]:
        """The values of a key, one a column. Raises Unholdable."""
        texts = [key] if len(self.names) == 1 else json.loads(key)
        return tuple(kind.value(text) for kind, text in zip(self.kinds, texts, strict=True))

    def key_of(self, values: Sequence[Any]) -> str:
        """The key of a row's values."""
        return key_text([kind.write(one) for kind, one in zip(self.kinds, values, strict=True)])

    def item_of(self, values: Sequence[Any]) -> Item:
        """A row's values as an item."""
        written: list[int | str] = [
            int(one) if kind.is_integer else kind.write(one)
            for kind, one in zip(self.kinds, values, strict=True)
        ]
        return written[0] if len(written) == 1 else dict(zip(self.names, written, strict=True))

    def is_one_of(self, values: Iterable[tuple[Any, ...]]) -> ColumnElement[bool]:
        """The condition that a row's key is one of these."""
        if len(self.key) == 1:
            return self._exactly(self.key[0]).in_([one for (one,) in values])
        return tuple_(*map(self._exactly, self.key)).in_(list(values))

    def is_beyond(self, values: tuple[Any, ...]) -> ColumnElement[bool]:
        """The condition that a row comes after this key."""
        if len(self.key) == 1:
            return self.key[0] > literal(values[0], self.key[0].type)
        bound = [literal(one, own.type) for one, own in zip(values, self.key, strict=True)]
        return tuple_(*self.key) > tuple_(*bound)

    def _exactly(self, own: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column that SQLite may have been told to compare without case."""
        is_text = self.dialect == "sqlite" and isinstance(own.type, String)
        return own.collate("BINARY") if is_text else own


def key_text(texts: Sequence[str]) -> str:
    """The key of a row from the texts of its values."""
    return texts[0] if len(texts) == 1 else json.dumps(texts, separators=(",", ":"))


def reflect(connection: Connection, settings: SqlTableSettings) -> KeyTable:
    """Look at the table. Raises Hopeless: it is not as it was configured."""
    wanted = [*settings.key, *settings.query_columns]
    found = _columns(connection, settings, wanted)
    if missing := [name for name in wanted if name not in found]:
        raise _wrong(settings, f"has no column {', '.join(missing)}: change key or query_columns")
    _expect_unique(inspect(connection), settings)
    dialect = connection.dialect.name
    kinds = [_kind(found[name], dialect, settings) for name in settings.key]
    columns = [column(name, _bound_type(found[name], dialect)) for name in wanted]
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


def _expect_unique(inspector: Inspector, settings: SqlTableSettings) -> None:
    """Refuse a key that may name several rows, only one of which was meant."""
    place = {"schema": settings.schema_name}
    sets = [inspector.get_pk_constraint(settings.table, **place)["constrained_columns"]]
    sets += [
        one["column_names"] for one in inspector.get_unique_constraints(settings.table, **place)
    ]
    for index in inspector.get_indexes(settings.table, **place):
        is_partial = any(name.endswith("_where") for name in index.get("dialect_options", {}))
        if index["unique"] and not is_partial and None not in index["column_names"]:
            sets.append([str(name) for name in index["column_names"]])
    if not any(one and set(one) <= set(settings.key) for one in sets):
        raise _wrong(settings, "is not unique by its key: name a primary key or a unique index")


def _kind(own: Column[Any], dialect: str, settings: SqlTableSettings) -> Kind:
    kind = kind_of(own, dialect)
    if kind is None:
        what = f"cannot be deleted by {own.name}, which is {own.type!r}"
        raise _wrong(settings, f"{what}: name another unique key")
    return kind


def _bound_type(own: Column[Any], dialect: str) -> Any:
    """How values are sent: SQLite's dates and UUIDs as the text they are kept as."""
    kind = kind_of(own, dialect)
    return String() if dialect == "sqlite" and kind and kind.expected == "text" else own.type


def _wrong(settings: SqlTableSettings, fault: str) -> Hopeless:
    return Hopeless(f"table {settings.table} {fault}", may_have_run=False, closes_target=True)
