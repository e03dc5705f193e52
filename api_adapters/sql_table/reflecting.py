"""Looks at a table: its key, what the key's columns hold, and whether it is one."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, column, inspect, table, text
from sqlalchemy.exc import NoSuchTableError

from api_adapters.errors import Hopeless
from api_adapters.sql_table.key_table import KeyTable
from api_adapters.sql_table.settings import SqlTableSettings
from api_adapters.sql_table.values import Kind, kind_of

#: An expression in an index has no name, and is no column of the key.
_SQLITE_UNIQUE = text(
    "SELECT l.name, i.name FROM pragma_index_list(:name, :schema) AS l,"
    ' pragma_index_info(l.name, :schema) AS i WHERE l."unique" AND NOT l.partial'
)


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
