"""Stores on SQL that are used again and again, each time empty.

Emptying one takes 5 ms. Making a database takes up to 300, and an engine that
knows no statement yet takes 50 more to compile those of one short test.
"""

import atexit
from collections import defaultdict
from collections.abc import Callable

from worker.store.dialect import Clock
from worker.store.sql import SqlStore
from worker.store.tables import metadata

#: Makes a database that holds an empty store; its URL.
Make = Callable[[], str]

_unused: defaultdict[Make, list["BorrowedStore"]] = defaultdict(list)


class BorrowedStore(SqlStore):
    """An empty store, whose database and connections others use after `close`."""

    def __init__(self, make: Make, *, clock: Clock | None = None) -> None:
        self._shelf = _unused[make]
        former = self._shelf.pop() if self._shelf else None
        self._url = former._url if former else make()
        super().__init__(self._url, clock=clock)
        if former:
            self.dialect = former.dialect
        else:
            atexit.register(super().close)
        self._is_lent = True
        with self.dialect.writing() as connection:
            for table in metadata.sorted_tables:
                connection.execute(table.delete())

    def close(self) -> None:
        """Give it back; safe to repeat."""
        if self._is_lent:
            self._is_lent = False
            self._shelf.append(self)
