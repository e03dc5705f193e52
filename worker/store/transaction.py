"""One transaction of the SQL store, and what its statements share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Select,
    Table,
    any_,
    bindparam,
    column,
    insert,
    select,
    text,
    type_coerce,
)

from api_adapters.base import Evidence, Verdict
from worker.errors import RefusedRequest
from worker.item import Mark
from worker.job import Job, JobId, JobState
from worker.store.base import Who
from worker.store.dialect import Clock, Dialect
from worker.store.tables import EPOCH, Moment, events, jobs
from worker.store.totalling import Gains


@dataclass(frozen=True, slots=True)
class Tx:
    """A connection in a transaction, with its dialect and the store's clock."""

    connection: Connection
    dialect: Dialect
    clock: Clock | None
    #: What is added to the totals at the end, if it comes to that.
    gained: Gains = field(default_factory=Gains)
    #: Events that are appended at the end, in one statement.
    noted: list[dict[str, Any]] = field(default_factory=list)

    def finish(self) -> None:
        """Write what was kept for the end: what others wait for is held the shorter."""
        if self.noted:
            self.execute_all(_NEW_EVENT, self.noted)
        self.gained.write(self.connection, self.dialect.insert)

    def now(self) -> datetime:
        """The moment of the store's clock; ask after waiting for a lock."""
        if self.clock is not None:
            return self.clock()
        milliseconds = self.connection.execute(self.dialect.now).scalar_one()
        return EPOCH + timedelta(milliseconds=milliseconds)

    def moment(self) -> tuple[str, dict[str, Any]]:
        """The query for the database's clock, if that is the store's, or its parameter.

        For `moment_of`: what a statement asks anyway, it can ask with the clock.
        """
        if self.clock is not None:
            return "", {"moment": self.clock()}
        return self.dialect.now.text, {}

    def execute(self, statement: Any, *args: Any) -> Any:
        """Run one statement."""
        return self.connection.execute(statement, *args)

    def execute_all(self, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run one statement for rows; psycopg takes longer for a list of one than for one."""
        self.execute(statement, rows[0] if len(rows) == 1 else list(rows))

    def first(self, statement: Executable) -> Row[Any] | None:
        """The first row, or None."""
        return self.connection.execute(statement).first()

    def locked(self, statement: Select[Any]) -> Select[Any]:
        """The same, holding the rows it finds until the end of the transaction."""
        return statement.with_for_update() if self.dialect.locks_rows else statement

    def insert(self, table: Table) -> Any:
        """An insertion that knows `on_conflict_do_...`."""
        return self.dialect.insert(table)

    def changed(self, statement: Any, *args: Any) -> int:
        """Run one update or deletion; how many rows it changed.

        Of an insertion psycopg's rows are not counted: let it return something.
        """
        count: int = self.connection.execute(statement, *args).rowcount
        return count

    def note(
        self,
        kind: str,
        *,
        now: datetime,
        job: JobId | None = None,
        target: str | None = None,
        who: Who | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one event."""
        who = who or Who()
        extra = {"reason": who.reason} if who.reason else {}
        self.noted.append(
            {
                "at": now,
                "kind": kind,
                "job": job,
                "target": target,
                "os_user": who.os_user,
                "by": who.by,
                "detail": json.dumps({**extra, **(detail or {})}),
            }
        )


def moment_of(clock: str) -> ColumnElement[Any]:
    """The moment of the store's clock within a statement; see `Tx.moment`."""
    moment: Any = bindparam("moment", type_=Moment)
    if clock:
        moment = text(clock).columns(column("now", Moment)).scalar_subquery()
    return type_coerce(moment, Moment)


def is_one_of(
    column: ColumnElement[Any],
    parameter: str,
    *,
    has_arrays: bool,
    values: Sequence[Any] | None = None,
) -> Any:
    """A condition that a column has one of the values of a parameter, given with it or later.

    As an array it is the same text for any number of them, which the server
    reads once; without, no more than a few hundred may be named.
    """
    given: dict[str, Any] = {} if values is None else {"value": list(values)}
    if has_arrays:
        return column == any_(bindparam(parameter, type_=ARRAY(column.type), **given))
    return column.in_(bindparam(parameter, expanding=True, **given))


#: Jobs that are named in one statement.
JOBS_AT_ONCE = 500

#: Made once, as are others that are run often: making one takes as long as running it.
_NEW_EVENT = insert(events)
_JOB = select(jobs).where(jobs.c.id == bindparam("of_job"))


def job_row(tx: Tx, job: JobId) -> Row[Any]:
    """The row of a job. Raises RefusedRequest: `unknown_job`."""
    return known(tx.execute(_JOB, {"of_job": job}).first(), job)


def locked_job_row(tx: Tx, job: JobId) -> Row[Any]:
    """The row of a job, held. Raises RefusedRequest: `unknown_job`."""
    return known(tx.first(tx.locked(select(jobs).where(jobs.c.id == job))), job)


def known(row: Row[Any] | None, job: JobId) -> Row[Any]:
    """The row that is there."""
    if row is None:
        raise RefusedRequest("unknown_job", f"there is no job {job}", data={"job": job})
    return row


def as_job(row: Row[Any]) -> Job:
    """A row of `jobs` as a thing."""
    return Job(
        id=JobId(row.id),
        seq=row.seq,
        target=row.target,
        fingerprint=row.fingerprint,
        state=JobState(row.state),
        reason=row.reason,
        dry_run=row.dry_run,
        approved=row.approved,
        items=row.items,
        duplicates=row.duplicates,
        plan=row.plan,
        requested_by=row.requested_by,
        notify=row.notify,
        parent=row.parent,
        chunk_items=row.chunk_items,
        query=json.loads(row.query) if row.query else None,
        frozen=json.loads(row.frozen) if row.frozen else None,
        found_at=row.found_at,
        needs_approval=row.needs_approval,
        purge=row.purge,
        purge_digest=row.purge_digest,
        max_items=row.max_items,
        pruned_at=row.pruned_at,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        items_digest=row.items_digest,
    )


def as_mark(row: Row[Any]) -> Mark:
    """The mark of a row of `batches` or `strays`."""
    return Mark(
        verdict=Verdict(row.verdict) if row.verdict else None,
        evidence=Evidence(row.evidence),
        code=row.code,
        message=row.message,
        doubt=row.doubt,
        calls=row.calls,
    )


def mark_values(mark: Mark, now: datetime) -> dict[str, Any]:
    """The columns of a mark that is written now."""
    return {
        "verdict": mark.verdict.value if mark.verdict else None,
        "evidence": mark.evidence.value,
        "code": mark.code,
        "message": mark.message,
        "doubt": mark.doubt,
        "calls": mark.calls,
        "decided_at": now if mark.is_final else None,
    }
