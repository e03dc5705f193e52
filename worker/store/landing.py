"""How jobs are opened, and their items land in chunks."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import Row, bindparam, func, or_, select, update

from worker.errors import RefusedRequest
from worker.job import Job, JobId, JobState, NewJob
from worker.store.base import Chunk, Sealed
from worker.store.entering import digest_of_chunk, insert_job, insert_landed, row_of_chunk
from worker.store.origins import check_parent, check_plan, take_query
from worker.store.tables import Moment, chunks, jobs
from worker.store.transaction import Tx, as_job, job_row, known, locked_job_row, moment_of

MOST_MISSING_TOLD = 100


def open_job(tx: Tx, job: NewJob) -> Job:
    """Insert a job whose items follow, are found, or are copied from another job."""
    if job.plan is None and job.parent is None and job.query is None:
        row, _ = insert_job(tx, job, JobState.OPEN)
        return as_job(row)
    row, is_new = insert_job(tx, job, JobState.PLANNING)
    if is_new and job.plan is not None:
        check_plan(tx, job, job.plan)
    if is_new and job.parent is not None:
        check_parent(tx, job, job.parent)
    source = job.plan or job.parent
    if is_new and source is not None:
        take_query(tx, row, job_row(tx, source))
    return as_job(job_row(tx, job.id))


def append(tx: Tx, job: JobId, chunk: Chunk) -> Job:
    """Insert a chunk with its items; a repeat changes nothing."""
    clock, moment = tx.moment()
    asked = {**moment, "of_job": job, "number": chunk.number}
    row = known(tx.execute(_appended(clock), asked).first(), job)
    held = None
    if row.known is None and _may_land(row, chunk.number):
        held = _land(tx, row, chunk, row.now)
    if held is None:
        digest = row.known or digest_of_chunk(tx, row.seq, chunk.number)
        if digest is None:
            raise _sealed(row, chunk)
        if digest != chunk.digest:
            raise RefusedRequest(
                "job_conflict",
                f"chunk {chunk.number} of job {job} landed with other content",
                data={"job": job, "chunk": chunk.number},
            )
        held = locked_job_row(tx, job)
    return as_job(_gone_on(tx, held))


@cache
def _appended(clock: str) -> Any:
    """The statement that reads a job with the digest of a chunk that is there, made once."""
    landed = select(chunks.c.digest).where(
        chunks.c.job == jobs.c.seq, chunks.c.number == bindparam("number")
    )
    columns = (*jobs.c, landed.scalar_subquery().label("known"), moment_of(clock).label("now"))
    return select(*columns).where(jobs.c.id == bindparam("of_job"))


def seal(tx: Tx, job: JobId, wanted: int) -> Sealed:
    """Say how many chunks there are."""
    row = locked_job_row(tx, job)
    if row.chunks not in {None, wanted}:
        raise RefusedRequest(
            "job_conflict",
            f"job {job} was sealed with {row.chunks} chunks, not {wanted}",
            data={"job": job, "chunks": row.chunks},
        )
    numbers = select(chunks.c.number).where(chunks.c.job == row.seq)
    if row.chunks is None:
        _check_seal(tx, row, wanted)
        sealing = update(jobs).where(jobs.c.seq == row.seq).values(chunks=wanted)
        row = _gone_on(tx, tx.execute(sealing.returning(*jobs.c)).one())
    landed = set(tx.execute(numbers).scalars())
    missing = (number for number in range(wanted) if number not in landed)
    told = tuple(islice(missing, MOST_MISSING_TOLD))
    return Sealed(JobState(row.state), told)


def _land(tx: Tx, row: Row[Any], chunk: Chunk, now: datetime) -> Row[Any] | None:
    """Insert a chunk, its items and those refused at the door; the job's row, held.

    None where another sender landed the same number meanwhile, and nothing was
    inserted. Where the job was sealed or ended meanwhile, all is taken back:
    chunks of one job land side by side, and its row is held only at the end.
    """
    seq = row.seq
    if tx.execute(_new_chunk(tx.dialect.insert), row_of_chunk(seq, chunk)).first() is None:
        return None
    insert_landed(tx, [(seq, chunk, now)])
    fed = {"of_seq": seq, "is_now": row.state, "landed": chunk.number}
    held: Row[Any] | None = tx.execute(_FED, {**fed, "more": chunk.count, "moment": now}).first()
    if held is None:
        raise _sealed(job_row(tx, JobId(row.id)), chunk)
    return held


@cache
def _new_chunk(insertion: Callable[[Any], Any]) -> Any:
    """The statement that inserts a chunk unless its number is there, made once."""
    return insertion(chunks).on_conflict_do_nothing().returning(chunks.c.number)


def _feeding() -> Any:
    """The statement that counts what landed in a job that still waits for it."""
    still_waits = or_(jobs.c.chunks.is_(None), jobs.c.chunks > bindparam("landed"))
    fed = update(jobs).where(
        jobs.c.seq == bindparam("of_seq"), jobs.c.state == bindparam("is_now"), still_waits
    )
    moment: Any = bindparam("moment", type_=Moment)
    count = jobs.c["items"] + bindparam("more")
    return fed.values(items=count, fed_at=moment).returning(*jobs.c)


_FED = _feeding()


def _may_land(row: Row[Any], number: int) -> bool:
    """Whether the job still waits for this chunk."""
    return row.state == JobState.OPEN and (row.chunks is None or number < row.chunks)


def _check_seal(tx: Tx, row: Row[Any], wanted: int) -> None:
    """Refuse a seal that the landed chunks or the state contradict."""
    if row.state != JobState.OPEN:
        raise RefusedRequest(
            "wrong_state", f"job {row.id} cannot be sealed: it is {row.state}", data={"job": row.id}
        )
    highest = tx.execute(
        select(func.max(chunks.c.number)).where(chunks.c.job == row.seq)
    ).scalar_one()
    if highest is not None and highest >= wanted:
        raise RefusedRequest(
            "wrong_state",
            f"job {row.id} cannot be sealed with {wanted} chunks: chunk {highest} has landed",
            data={"job": row.id, "chunk": highest},
        )
    uneven = tx.first(
        select(chunks.c.number, chunks.c["items"])
        .where(
            chunks.c.job == row.seq,
            chunks.c.number < wanted - 1,
            chunks.c["items"] != row.chunk_items,
        )
        .limit(1)
    )
    if uneven is not None:
        raise RefusedRequest(
            "wrong_state",
            f"chunk {uneven.number} of job {row.id} holds {uneven.items} items, "
            f"but every chunk but the last has {row.chunk_items}",
            data={"job": row.id, "chunk": uneven.number},
        )


def _gone_on(tx: Tx, held: Row[Any]) -> Row[Any]:
    """open -> planning, once the job is sealed and its last chunk is there; its row then.

    Whoever comes last, seal or chunk, sees the other: both hold the job's row.
    """
    if held.state != JobState.OPEN or held.chunks is None:
        return held
    landed = tx.execute(
        select(func.count()).select_from(chunks).where(chunks.c.job == held.seq)
    ).scalar_one()
    if landed < held.chunks:
        return held
    planning = update(jobs).where(jobs.c.seq == held.seq)
    row: Row[Any] = tx.execute(
        planning.values(state=JobState.PLANNING.value).returning(*jobs.c)
    ).one()
    return row


def _sealed(row: Row[Any], chunk: Chunk) -> RefusedRequest:
    """The job takes no more."""
    return RefusedRequest(
        "job_sealed",
        f"job {row.id} takes no more items: it is {row.state}",
        data={"job": row.id, "chunk": chunk.number, "state": row.state},
    )
