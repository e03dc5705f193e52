"""How jobs are opened, and their items land in chunks."""

from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Row, func, or_, select, update

from worker.errors import RefusedRequest
from worker.job import Job, JobId, JobState, NewJob
from worker.store.base import Chunk, Sealed
from worker.store.entering import digest_of_chunk, insert_job, insert_landed, row_of_chunk
from worker.store.origins import check_parent, check_plan, take_query
from worker.store.tables import chunks, jobs
from worker.store.transaction import Tx, as_job, job_row, locked_job_row

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


def append(tx: Tx, job: JobId, chunk: Chunk) -> int:
    """Insert a chunk with its items; a repeat changes nothing."""
    row = job_row(tx, job)
    known = digest_of_chunk(tx, row.seq, chunk.number)
    if known is None and _may_land(row, chunk.number):
        known = _land(tx, row, chunk, tx.now())
    if known is None:
        raise _sealed(row, chunk)
    if known != chunk.digest:
        raise RefusedRequest(
            "job_conflict",
            f"chunk {chunk.number} of job {job} landed with other content",
            data={"job": job, "chunk": chunk.number},
        )
    _go_on_if_complete(tx, job)
    return chunk.given


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
        tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(chunks=wanted))
        _go_on_if_complete(tx, job)
    landed = set(tx.execute(numbers).scalars())
    missing = (number for number in range(wanted) if number not in landed)
    told = tuple(islice(missing, MOST_MISSING_TOLD))
    return Sealed(JobState(job_row(tx, job).state), told)


def _land(tx: Tx, row: Row[Any], chunk: Chunk, now: datetime) -> str:
    """Insert a chunk, its items and those refused at the door; its digest.

    Where another sender landed the same number meanwhile, nothing is inserted
    and the digest is theirs. Where the job was sealed or ended meanwhile, all
    is taken back: chunks of one job land side by side, and its row is held
    only at the end.
    """
    seq = row.seq
    new = (
        tx.insert(chunks)
        .values(**row_of_chunk(seq, chunk))
        .on_conflict_do_nothing()
        .returning(chunks.c.number)
    )
    if tx.first(new) is None:
        return digest_of_chunk(tx, seq, chunk.number) or ""
    insert_landed(tx, [(seq, chunk, now)])
    count = jobs.c["items"] + chunk.count
    still_waits = or_(jobs.c.chunks.is_(None), jobs.c.chunks > chunk.number)
    fed = update(jobs).where(jobs.c.seq == seq, jobs.c.state == row.state, still_waits)
    if not tx.changed(fed.values(items=count, fed_at=now)):
        raise _sealed(job_row(tx, JobId(row.id)), chunk)
    return chunk.digest


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


def _go_on_if_complete(tx: Tx, job: JobId) -> None:
    """open -> planning, once the job is sealed and its last chunk is there.

    Whoever comes last, seal or chunk, sees the other: both hold the job's row.
    """
    row = locked_job_row(tx, job)
    if row.state != JobState.OPEN or row.chunks is None:
        return
    landed = tx.execute(
        select(func.count()).select_from(chunks).where(chunks.c.job == row.seq)
    ).scalar_one()
    if landed == row.chunks:
        planning = update(jobs).where(jobs.c.seq == row.seq)
        tx.execute(planning.values(state=JobState.PLANNING.value))


def _sealed(row: Row[Any], chunk: Chunk) -> RefusedRequest:
    """The job takes no more."""
    return RefusedRequest(
        "job_sealed",
        f"job {row.id} takes no more items: it is {row.state}",
        data={"job": row.id, "chunk": chunk.number, "state": row.state},
    )
