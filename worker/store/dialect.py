"""What the SQL store needs of a dialect: only what differs between them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, Table, TextClause

Clock = Callable[[], datetime]


class Dialect(Protocol):
    """One kind of database."""

    engine: Engine

    @property
    def now(self) -> TextClause:
        """A query for the database's clock in milliseconds since 1970."""
        ...

    @property
    def locks_rows(self) -> bool:
        """Whether rows are locked one by one."""
        ...

    @property
    def has_lateral(self) -> bool:
        """Whether a joined query may refer to the tables before it."""
        ...

    @property
    def has_arrays(self) -> bool:
        """Whether one parameter may be a list, that is read as rows."""
        ...

    @property
    def has_writing_ctes(self) -> bool:
        """Whether one statement may insert into several tables, and reads JSON as rows."""
        ...

    def plan_once(self, connection: Connection) -> None:
        """Plan what follows in this transaction without its values, and so once a session."""
        ...

    def insert(self, table: Any) -> Any:
        """The dialect's own insertion, which knows `on_conflict_do_...`."""
        ...

    def writing(self, *, may_be_lost: bool = False) -> AbstractContextManager[Connection]:
        """One transaction that writes.

        One that may be lost, when the database's machine fails within the next
        moments, need not wait for the disk with its locks held.
        """
        ...

    def writing_alone(self) -> AbstractContextManager[Connection]:
        """One transaction that nobody else who asks for this is in."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """One transaction that reads one state of the store."""
        ...

    def peeking(self) -> AbstractContextManager[Connection]:
        """Reading without a transaction: each statement sees the store as it is then."""
        ...

    def sweep(self) -> None:
        """Let no file of ours hold what was deleted, as far as that is in our hands."""
        ...

    def texts_of(
        self, connection: Connection, stretches: Sequence[tuple[int, int, int]]
    ) -> Iterable[tuple[int, int, str]]:
        """(job, first, texts) of the pages that hold places of stretches.

        The stretches are (job, first, last), and no two have a page in common.
        """
        ...

    def is_inside(self, column: Any, part: bytes) -> ColumnElement[bool]:
        """Whether some bytes stand in those of a column."""
        ...

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Insert rows, whose values stand in the order of the table's columns, in bulk."""
        ...
