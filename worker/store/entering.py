"""How a job's row enters the store, and with it all its items where they come at once."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, select

from worker.errors import RefusedRequest
from worker.job import JobId, JobState, NewJob
from worker.store import packing, paging, printing
from worker.store.base import Chunk, Cut
from worker.store.tables import chunks, jobs, strays, targets
from worker.store.transaction import Tx, locked_job_row, mark_values


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that comes with all its items; with cuts, which cover them, it is planned."""

    job: NewJob
    chunk: Chunk
    cuts: Sequence[Cut] = ()


@dataclass(frozen=True, slots=True)
class Entered:
    """A submission with its job's row, which may have been there before."""

    row: Row[Any]
    submission: Submission
    is_new: bool


def submit(tx: Tx, submissions: Sequence[Submission]) -> list[Entered | RefusedRequest]:
    """Insert jobs, each with its only chunk; a repeat answers the one that is there.

    One that is planned runs from here on: its ranges follow in the same
    transaction. Nothing is written for one that is refused.
    """
    taken: dict[int, Entered | RefusedRequest] = {}
    new: dict[JobId, Entered] = {}
    # Whoever inserts the same ones waits for us, and we for nobody who waits for us.
    for number, one in sorted(enumerate(submissions), key=lambda pair: pair[1].job.id):
        try:
            taken[number] = _submit_one(tx, one, new)
        except RefusedRequest as refusal:
            taken[number] = refusal
    _insert_chunks(tx, new.values())
    return [taken[number] for number in range(len(submissions))]


def _submit_one(tx: Tx, one: Submission, new: dict[JobId, Entered]) -> Entered:
    """Insert a job, whose chunk follows, unless it is there. Raises RefusedRequest."""
    state = JobState.RUNNING if one.cuts else JobState.PLANNING
    row, is_new = insert_job(tx, one.job, state, **counts_of(one))
    if is_new:
        return new.setdefault(one.job.id, Entered(row, one, is_new=True))
    twin = new.get(one.job.id)
    digest = twin.submission.chunk.digest if twin else digest_of_chunk(tx, row.seq, 0)
    if digest != one.chunk.digest or row.chunks != 1:
        raise _conflict(one.job.id)
    return Entered(row, one, is_new=False)


def _insert_chunks(tx: Tx, new: Collection[Entered]) -> None:
    """Insert the only chunks of new jobs, with all that they hold."""
    if not new:
        return
    landed = [(one.row.seq, one.submission.chunk, one.row.created_at) for one in new]
    tx.execute_all(_NEW_CHUNK, [row_of_chunk(seq, chunk) for seq, chunk, _ in landed])
    insert_landed(tx, landed)


def insert_job(tx: Tx, job: NewJob, state: JobState, **counts: Any) -> tuple[Row[Any], bool]:
    """Insert a job unless its id is there; its row, held, and whether it is new."""
    now = tx.now()
    moments = {
        "created_at": now,
        "fed_at": now,
        "released_at": now if state is JobState.RUNNING else None,
    }
    values = values_of_job(job, state) | moments | counts
    new = _new_job(tx.dialect.insert, tuple(values), is_running=state is JobState.RUNNING)
    made = tx.execute(new, values).first()
    if made is None:
        row = locked_job_row(tx, job.id)
        if row.options != values["options"]:
            raise _conflict(job.id)
        return row, False
    detail = noted_of_job(job)
    tx.note("job.submitted", now=now, job=job.id, target=job.target, detail=detail)
    return made, True


def values_of_job(job: NewJob, state: JobState) -> dict[str, Any]:
    """What a new job's row begins with, but for its moments and counts."""
    options = sha256(json.dumps(job.options, sort_keys=True).encode()).hexdigest()
    return {
        "id": job.id,
        "target": job.target,
        "fingerprint": job.fingerprint,
        "state": state.value,
        "dry_run": job.dry_run,
        "plan": job.plan,
        "parent": job.parent,
        "leftovers": json.dumps(sorted(job.leftovers)) if job.parent else None,
        "query": json.dumps(job.query, allow_nan=False) if job.query is not None else None,
        "needs_approval": job.needs_approval,
        "retain_for": job.retain_for,
        "purge": job.purge,
        "purge_digest": job.purge_digest,
        "max_items": job.max_items,
        "options": options,
        "chunk_items": job.chunk_items,
        "requested_by": job.requested_by,
        "notify": job.notify,
    }


def counts_of(one: Submission) -> dict[str, Any]:
    """What is counted of a job that comes with all its items."""
    return {
        "items": one.chunk.count,
        "duplicates": one.chunk.given - one.chunk.count,
        "chunks": 1,
        "is_cut": bool(one.cuts),
    }


def noted_of_job(job: NewJob) -> dict[str, Any]:
    """The detail of the event of a new job."""
    return {"dry_run": job.dry_run, "requested_by": job.requested_by}


@cache
def _new_job(insertion: Callable[[Any], Any], names: tuple[str, ...], *, is_running: bool) -> Any:
    """The statement that inserts a job unless its id is there, made once.

    One that runs from the start enters at its target's present round.
    """
    values: dict[str, Any] = {name: bindparam(name, type_=jobs.c[name].type) for name in names}
    if is_running:
        present = select(targets.c.round).where(targets.c.name == values["target"])
        values["round"] = func.coalesce(present.scalar_subquery(), 0)
    return insertion(jobs).values(**values).on_conflict_do_nothing().returning(jobs)


_NEW_CHUNK = insert(chunks)


def row_of_chunk(seq: int, chunk: Chunk) -> dict[str, Any]:
    """What is kept of a chunk that has landed."""
    lowest, highest = chunk.ends or (None, None)
    return {
        "job": seq,
        "number": chunk.number,
        "items": chunk.count,
        "bytes": chunk.size,
        "digest": chunk.digest,
        "lowest": lowest,
        "highest": highest,
    }


def insert_landed(tx: Tx, landed: Iterable[tuple[int, Chunk, datetime]]) -> None:
    """Insert the items of chunks, each with its job and moment, and strays for refused ones."""
    paged: list[tuple[Any, ...]] = []
    printed: list[tuple[Any, ...]] = []
    refused: list[dict[str, Any]] = []
    for seq, chunk, now in landed:
        paged += packing.rows_of(seq, chunk.first, chunk.texts, chunk.keys)
        printed += printing.rows_of(seq, chunk.first, chunk.keys)
        refused += (
            {"job": seq, "position": position, **mark_values(refusal, now)}
            for position, refusal in chunk.refusals.items()
        )
    paging.insert_rows(tx, paged)
    printing.insert_rows(tx, printed)
    if refused:
        tx.execute(insert(strays), refused)


def digest_of_chunk(tx: Tx, seq: int, number: int) -> str | None:
    """The digest of a chunk that has landed."""
    found = tx.first(select(chunks.c.digest).where(chunks.c.job == seq, chunks.c.number == number))
    return found.digest if found else None


def _conflict(job: JobId) -> RefusedRequest:
    """The id stands for something else."""
    return RefusedRequest(
        "job_conflict",
        f"job {job} is there already with other content: give a new job a new id",
        data={"job": job},
    )
