"""The adapter: one statement a call, and a verdict for every key."""

import datetime as dt
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, delete, literal, select

from api_adapters.base import (
    Adapter,
    Checked,
    Deadline,
    Finding,
    Integers,
    Item,
    Limits,
    Pace,
    Presence,
    Reply,
    Verdict,
)
from api_adapters.errors import BadItem, CallFailed, Hopeless
from api_adapters.sql_table.comparing import condition
from api_adapters.sql_table.connecting import Database
from api_adapters.sql_table.counting import Counting, Missing
from api_adapters.sql_table.failures import Kept
from api_adapters.sql_table.key_table import KeyTable, key_text
from api_adapters.sql_table.looking import Values, holdable, moment_of, still_there, text_of
from api_adapters.sql_table.querying import Query, frozen, parse_query
from api_adapters.sql_table.reflecting import reflect
from api_adapters.sql_table.settings import SqlTableSettings

#: Rows of one page of `find`.
PAGE = 1_000
#: SQLite takes 32,766 values a statement, PostgreSQL twice that.
MOST_VALUES = 30_000
#: Seconds that a statement needs to be worth beginning.
WORTH_BEGINNING = 0.5

_DELETED = Finding(Verdict.DELETED)
_ABSENT = Finding(Verdict.ABSENT)


class SqlTable(Adapter):
    """Deletes rows of one table by their key."""

    Settings = SqlTableSettings
    limits = Limits(max_items_per_call=1_000, max_items_per_probe=1_000)
    can_probe = True
    repeats_query = True
    identity: ClassVar[tuple[str, ...]] = ("url", "table", "schema_name", "key")

    def __init__(self, settings: SqlTableSettings, *, pace: Pace) -> None:
        self._settings = settings
        self._pace = pace
        connections = settings.max_in_flight or self.limits.max_in_flight
        self._database = Database(settings.address, connections=connections)
        self._known: KeyTable | None = None
        self._counting: Counting | None = None
        self._lock = threading.Lock()

    def key(self, item: Item) -> str:
        """The text of the key's value, or the texts of its values as a JSON list.

        Local: the table is not asked. That equal keys are one row, and one row
        has one key, holds because `delete` rejects every other spelling.
        """
        names = self._settings.key
        if len(names) == 1:
            return text_of(item)
        if not isinstance(item, dict) or set(item) != set(names):
            raise BadItem(f"expected an object with {', '.join(names)}")
        return key_text([text_of(item[name]) for name in names])

    def keys(self, items: Sequence[Item]) -> list[str]:
        """All at once where the key is one column and all items are integers."""
        if len(self._settings.key) == 1 and isinstance(items, Integers):
            return items.digits
        return super().keys(items)

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        return self._delete(items, None, until)

    def delete_found(
        self, items: Mapping[str, Item], query: Mapping[str, Any], *, until: Deadline
    ) -> Reply:
        """Delete items only while they match the frozen query that found them."""
        return self._delete(items, self._parse(query), until)

    def probe(self, items: Mapping[str, Item], *, until: Deadline) -> Mapping[str, Presence]:
        table = self._table(until)
        values, _ = holdable(table, items)
        self._pace.enter(until)
        with self._database.looking(until) as connection:
            there = still_there(connection, table, values)
        return {key: Presence.THERE if key in there else Presence.GONE for key in values}

    def check_query(self, query: Mapping[str, Any]) -> None:
        self._parse(query)

    def freeze(self, query: Mapping[str, Any], *, until: Deadline) -> dict[str, Any]:
        """The query with its age reckoned once, by the database's clock."""
        parsed = self._parse(query)
        if parsed.older_than is None or parsed.older_than.age is None:
            return frozen(parsed, dt.datetime.now(dt.UTC))
        self._pace.enter(until)
        with self._database.looking(until) as connection:
            return frozen(parsed, moment_of(connection))

    def find(self, query: Mapping[str, Any], *, until: Deadline) -> Iterator[Item]:
        """List the keys of matching rows, in the order of the key.

        A row that comes in behind the page that is read is not found.
        """
        fixed = self._parse(self.freeze(query, until=until))
        table = until.page(partial(self._table, until))
        matching = condition(fixed, table)
        chosen = select(*table.key).select_from(table.table).where(matching)
        page = chosen.order_by(*table.order).limit(PAGE)
        rows = until.page(partial(self._page, page, until))
        while rows:
            yield from (table.item_of(row) for row in rows)
            beyond = page.where(table.is_beyond(rows[-1]))
            rows = until.page(partial(self._page, beyond, until))

    def check(self, *, until: Deadline) -> Checked:
        """Have the deletion explained, which asks for the same rights and deletes nothing."""
        table = self._table(until, again=True)
        statement = delete(table.table).where(literal(value=False)).returning(*table.key)
        self._pace.enter(until)
        with self._database.deleting(until) as connection:
            sql = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
            connection.exec_driver_sql(f"EXPLAIN {sql}")
        self._check_file()
        return Checked(
            shown="the database takes the login; the table is there, its key names one row, "
            "and its rows may be deleted",
            not_shown="which rows foreign keys, triggers or row-level security keep",
        )

    def close(self) -> None:
        self._database.close()

    # -- deleting -------------------------------------------------------------

    def _delete(self, items: Mapping[str, Item], query: Query | None, until: Deadline) -> Reply:
        """One statement; where a row may not be deleted, halves, until it stands alone."""
        table = self._table(until)
        matching = condition(query, table) if query is not None else None
        values, findings = holdable(table, items)
        most = MOST_VALUES // len(table.names)
        sent = values if len(values) <= most else dict(islice(values.items(), most))
        unsent = set(values) - set(sent) if sent is not values else set()
        parts = [sent] if sent else []
        while parts:
            part = parts.pop()
            if until.seconds_left < WORTH_BEGINNING and findings:
                unsent.update(part)
                continue
            try:
                found = self._delete_part(table, part, matching, until)
                # The first part is mostly the only one.
                findings = findings | found if findings else found
            except Kept as kept:
                if len(part) == 1:
                    findings |= dict.fromkeys(part, Finding(kept.verdict, code=kept.code))
                else:
                    parts += _halves(part)
            except CallFailed as error:
                if not findings and not unsent:
                    raise
                unsent.update(key for other in parts for key in other)
                return Reply(findings, frozenset(unsent), error=error)
        return Reply(findings, frozenset(unsent))

    def _delete_part(
        self, table: KeyTable, part: Values, matching: ColumnElement[bool] | None, until: Deadline
    ) -> dict[str, Finding]:
        """Delete some rows in one transaction, and look at what was not returned."""
        if matching is None and self._delete_all(part, until):
            return dict.fromkeys(part, _DELETED)
        self._pace.enter(until)
        with self._database.deleting(until) as connection:
            found = table.delete(connection, part, matching)
            if found == set(part.values()):
                return dict.fromkeys(part, _DELETED)
            deleted = set(map(table.key_of, found))
            if not deleted <= part.keys():
                # Not committed: a column that ignores case, say, took more than was named.
                raise Hopeless("the key column compares loosely: name another", may_have_run=False)
            silent = {key: one for key, one in part.items() if key not in deleted}
            there = still_there(connection, table, silent, matching)
        findings = {key: _kept(there[key]) if key in there else _ABSENT for key in silent}
        return findings | dict.fromkeys(deleted, _DELETED)

    def _delete_all(self, part: Values, until: Deadline) -> bool:
        """Delete rows that are likely to be there; False where nothing was done."""
        counting = self._counting
        if counting is None or not counting.is_worth_it():
            return False
        self._pace.enter(until)
        try:
            with self._database.deleting(until) as connection:
                counting.delete(connection, part)
        except Missing:
            return False
        return True

    # -- the table ------------------------------------------------------------

    def _table(self, until: Deadline, *, again: bool = False) -> KeyTable:
        """The table as it was first seen; a check looks again."""
        with self._lock:
            if self._known is None or again:
                self._pace.enter(until)
                with self._database.looking(until) as connection:
                    self._known = reflect(connection, self._settings)
                self._counting = Counting.of(self._known)
            return self._known

    def _page(self, page: Any, until: Deadline) -> Sequence[Any]:
        self._pace.enter(until)
        with self._database.looking(until) as connection:
            return connection.execute(page).all()

    def _parse(self, query: Mapping[str, Any]) -> Query:
        return parse_query(query, self._settings.query_columns)

    def _check_file(self) -> None:
        url = self._settings.address()
        if url.get_backend_name() == "sqlite" and not os.access(url.database or "", os.W_OK):
            raise Hopeless("the file may not be written to", may_have_run=False)


def _kept(still_matches: bool) -> Finding:  # noqa: FBT001 (what was seen)
    """A row that is there after the statement: it did not match, or a trigger kept it."""
    return Finding(Verdict.DENIED, code="kept_by_trigger" if still_matches else "no_longer_matches")


def _halves(part: Values) -> list[Values]:
    rows = list(part.items())
    middle = len(rows) // 2
    return [dict(rows[:middle]), dict(rows[middle:])]
