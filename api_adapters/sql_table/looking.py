"""Questions to the table that change nothing."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal, select, text

from api_adapters.base import Finding, Item, Verdict
from api_adapters.errors import BadItem
from api_adapters.sql_table.key_table import KeyTable
from api_adapters.sql_table.values import Unholdable

#: Values by key.
Values = Mapping[str, Any]

_SQLITE_NOW = text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')")


def text_of(value: Any) -> str:
    """The text of a key's value. Raises BadItem."""
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise BadItem("expected a text or an integer")
    try:
        written = str(value)
        written.encode()
    except ValueError:
        raise BadItem("expected text in Unicode, and an integer of fewer digits") from None
    return written


def holdable(table: KeyTable, keys: Mapping[str, Item]) -> tuple[Values, dict[str, Finding]]:
    """The values of keys, and findings for those that no row can have."""
    if (alike := table.integers_of(keys)) is not None:
        return alike, {}
    values, findings = {}, {}
    for key in keys:
        try:
            values[key] = table.value_of(key)
        except Unholdable as error:
            findings[key] = Finding(Verdict.REJECTED, code="invalid_item", message=str(error))
    return values, findings


def still_there(
    connection: Connection,
    table: KeyTable,
    values: Values,
    matching: ColumnElement[bool] | None = None,
) -> dict[str, bool]:
    """Which rows are there, and whether they match."""
    if not values:
        return {}
    matches = (
        literal(value=True) if matching is None else func.coalesce(matching, literal(value=False))
    )
    chosen = select(*table.key, matches).select_from(table.table).where(table.is_wanted)
    rows = connection.execute(chosen, table.wanted(values))
    found = ((row[0] if table.is_single else row[:-1], bool(row[-1])) for row in rows)
    return {table.key_of(value): matches for value, matches in found}


def moment_of(connection: Connection) -> dt.datetime:
    """The moment of the database's clock."""
    if connection.dialect.name == "sqlite":
        return dt.datetime.fromisoformat(connection.execute(_SQLITE_NOW).scalar_one() + "+00:00")
    found: dt.datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return found
