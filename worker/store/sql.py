"""The results store on SQLAlchemy: every method one transaction of named statements."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api_adapters.base import Verdict
from worker.batch import Claimed, Returned
from worker.errors import BadConfiguration, LeaseLost, RefusedRequest, StoreUnavailable
from worker.failing import Tolerance
from worker.job import Job, JobId, JobState, JobStatus, NewJob, Tally
from worker.joining import Joined, together
from worker.purge import Decision, PurgeNote, PurgeRun, RunStatus
from worker.store import (
    arriving,
    claiming,
    copying,
    ending,
    finding,
    forgetting,
    gathering,
    landing,
    looking,
    measuring,
    noting,
    planning,
    protecting,
    pruning,
    purging,
    reading,
    recording,
    ringing,
    settling,
    stopping,
)
from worker.store.base import (
    Appetite,
    Busy,
    Chunk,
    Claim,
    Closing,
    Cut,
    Event,
    Forgotten,
    JobNote,
    LeaseId,
    Look,
    Measures,
    Mention,
    Noted,
    Outdated,
    Owed,
    Page,
    Part,
    Protected,
    Protection,
    Record,
    Renewed,
    Sealed,
    Store,
    TargetNote,
    Unprotected,
    Who,
)
from worker.store.dialect import Clock, Dialect
from worker.store.entering import Submission
from worker.store.postgresql import PostgresqlDialect
from worker.store.sqlite import SqliteDialect
from worker.store.transaction import Tx, as_job, job_row


def dialect_of(url: URL) -> Dialect:
    """The dialect that an address names. Raises BadConfiguration."""
    match url.get_backend_name():
        case "sqlite":
            return SqliteDialect(url)
        case "postgresql":
            return PostgresqlDialect(url)
        case other:
            raise BadConfiguration(
                (f"DELETIONS_STORE_URL names '{other}': expected sqlite or postgresql",)
            )


class SqlStore(Store):
    """The truth about every job, in one database."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """Open nothing yet; `clock` stands in for the database's own in tests."""
        self.dialect = dialect_of(make_url(url))
        self._clock = clock
        # Their transaction costs more than what it writes.
        self._submissions: Joined[Submission, Job | Exception] = Joined(self._submit_for)

    @contextmanager
    def _write(self, *, may_be_lost: bool = False) -> Iterator[Tx]:
        """One transaction that writes."""
        with _telling(), self.dialect.writing(may_be_lost=may_be_lost) as connection:
            tx = Tx(connection, self.dialect, self._clock)
            yield tx
            tx.finish()

    @contextmanager
    def _read(self) -> Iterator[Tx]:
        """One transaction that reads."""
        with _telling(), self.dialect.reading() as connection:
            yield Tx(connection, self.dialect, self._clock)

    @contextmanager
    def _peek(self) -> Iterator[Tx]:
        """Statements of which none has to see what another one saw."""
        with _telling(), self.dialect.peeking() as connection:
            yield Tx(connection, self.dialect, self._clock)

    # -- how jobs come in ---------------------------------------------------

    def submit(self, job: NewJob, chunk: Chunk, *, cuts: Sequence[Cut] = ()) -> Job:
        """A small one with those that come while another one is written.

        Larger ones go alone: a small one is not to wait for them.
        """
        one = Submission(job, chunk, cuts)
        if chunk.count <= arriving.FEW_ITEMS:
            taken = self._submissions("", one)
        else:
            (taken,) = self._submit_many([one])
        if isinstance(taken, Exception):
            raise taken
        return taken

    def _submit_many(self, some: Sequence[Submission]) -> list[Job | Exception]:
        """Submit several by one transaction; a refused one writes nothing."""
        with self._write() as tx:
            taken = arriving.submit(tx, some)
            return [one if isinstance(one, RefusedRequest) else as_job(one) for one in taken]

    def _submit_for(self, _: str, some: Sequence[Submission]) -> Sequence[Job | Exception]:
        """Submit for all threads that came by now."""
        return together(self._submit_many, some, unless=StoreUnavailable)

    def open(self, job: NewJob) -> Job:
        with self._write() as tx:
            return landing.open_job(tx, job)

    def append(self, job: JobId, chunk: Chunk) -> Job:
        with self._write() as tx:
            return landing.append(tx, job, chunk)

    def seal(self, job: JobId, chunks: int) -> Sealed:
        with self._write() as tx:
            return landing.seal(tx, job, chunks)

    # -- planning -----------------------------------------------------------

    def begin_planning(self, job: JobId, *, holder: str, lasting: timedelta) -> Job | None:
        with self._write() as tx:
            return planning.begin_planning(tx, job, holder, lasting)

    def give_up_planning(self, job: JobId, *, holder: str) -> None:
        with self._write() as tx:
            finding.give_up_planning(tx, job, holder)

    def copy_plan(self, job: JobId, *, limit: int) -> bool:
        with self._write() as tx:
            return copying.copy_plan(tx, job, limit)

    def copy_leftovers(self, job: JobId, *, limit: int) -> bool:
        with self._write() as tx:
            return copying.copy_leftovers(tx, job, limit)

    def drop_duplicates(self, job: JobId) -> Job:
        """In strides, each a transaction of its own; the count is the last one."""
        is_clean = False
        while not is_clean:
            with self._write() as tx:
                is_clean = planning.drop_some_duplicates(tx, job)
        with self._write() as tx:
            return planning.count_items(tx, job)

    def places(self, job: JobId, *, after: int, limit: int) -> Sequence[tuple[int, int, bool]]:
        with self._read() as tx:
            return planning.places(tx, job, after, limit)

    def parts(self, job: JobId, *, after: int, size: int, limit: int) -> Sequence[Part]:
        with self._read() as tx:
            return planning.parts(tx, job, after, size=size, limit=limit)

    def last_cut(self, job: JobId) -> int:
        with self._read() as tx:
            return planning.last_cut(tx, job)

    def add_batches(self, job: JobId, cuts: Sequence[Cut]) -> None:
        with self._write() as tx:
            planning.add_batches(tx, job, cuts)

    def start(self, job: JobId) -> bool:
        with self._write() as tx:
            return planning.start(tx, job)

    def content(
        self, job: JobId, *, after: int, limit: int
    ) -> Sequence[tuple[int, str, bytes | None]]:
        with self._read() as tx:
            return planning.content(tx, job, after, limit)

    def hold(self, job: JobId, *, reason: str, digest: str | None = None) -> bool:
        with self._write() as tx:
            return planning.hold(tx, job, reason, digest)

    def finish_dry(self, job: JobId) -> bool:
        with self._write() as tx:
            return planning.finish_dry(tx, job)

    # -- finding ------------------------------------------------------------

    def begin_find(self, job: JobId, *, holder: str) -> int:
        with self._write() as tx:
            return finding.begin_find(tx, job, holder)

    def freeze(self, job: JobId, frozen: Mapping[str, Any], *, holder: str) -> Job:
        with self._write() as tx:
            return finding.freeze(tx, job, frozen, holder)

    def clear_found(self, job: JobId, *, holder: str, limit: int) -> bool:
        with self._write() as tx:
            return finding.clear_found(tx, job, holder, limit)

    def land_found(self, job: JobId, chunk: Chunk, *, holder: str) -> None:
        with self._write() as tx:
            finding.land_found(tx, job, chunk, holder)

    def end_find(self, job: JobId, *, holder: str) -> Job:
        with self._write() as tx:
            return finding.end_find(tx, job, holder)

    def rest(self, target: str, *, length: timedelta) -> None:
        with self._write() as tx:
            finding.rest(tx, target, length)

    # -- executing ----------------------------------------------------------

    def answer_bell(self, target: str) -> None:
        # A bell that counts as not answered is rung again after a while.
        with self._write(may_be_lost=True) as tx:
            ringing.answer_bell(tx, target)

    def decline_bell(self, target: str) -> None:
        with self._write(may_be_lost=True) as tx:
            ringing.decline_bell(tx, target)

    def claim_many(
        self,
        target: str,
        *,
        hands: int,
        fingerprint: str,
        holder: str,
        lasting: timedelta,
        appetite: Callable[[timedelta | None], Appetite],
        tolerance: Tolerance | None = None,
        is_sure: bool = False,
        answers_bell: bool = False,
    ) -> Sequence[Claim | Busy]:
        if not is_sure:
            with self._peek() as tx:
                if (busy := gathering.glance(tx, target, fingerprint, appetite)) is not None:
                    return [busy] * hands
        with self._write() as tx:
            taken = claiming.claim(
                tx,
                target,
                hands=hands,
                fingerprint=fingerprint,
                holder=holder,
                lasting=lasting,
                appetite=appetite,
                stop_failing=partial(stopping.stop_failing, tx, tolerance=tolerance),
                answers_bell=answers_bell,
            )
        if isinstance(taken, Busy):
            return [taken] * hands
        # Items never change, and what is open of them only the leases do.
        with self._peek() as tx:
            claims = claiming.with_items(tx, taken)
        return [*claims, *[taken.others] * (hands - len(claims))]

    def see(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, Renewed]:
        with self._peek() as tx:
            return recording.see(tx, leases)

    def renew(self, lease: LeaseId, *, lasting: timedelta) -> Renewed:
        with self._write() as tx:
            return recording.renew(tx, lease, lasting)

    def record_many(self, records: Sequence[Record]) -> Sequence[Noted | LeaseLost]:
        with self._write() as tx:
            return recording.record(tx, records)

    def rescue(self, decide: Callable[[str, Claimed], Returned], *, limit: int) -> Noted:
        with self._write() as tx:
            return recording.rescue(tx, decide, limit)

    def come_back(self) -> int:
        with self._write() as tx:
            return recording.lengthen_lost(tx)

    def close_target(self, target: str, *, reason: str, rest: timedelta) -> timedelta:
        with self._write() as tx:
            return ending.close_target(tx, target, reason, rest)

    def open_target(self, target: str, who: Who) -> bool:
        with self._write() as tx:
            return ending.open_target(tx, target, who)

    def stop(self, job: JobId, *, reason: str) -> bool:
        with self._write() as tx:
            return ending.wish_to_end(tx, job, "stop", reason, Who())

    # -- bells --------------------------------------------------------------

    def may_ring(self, target: str) -> bool:
        with self._peek() as tx:
            if ringing.is_rung(tx, target):
                return False
        # A bell that counts as not rung is rung again.
        with self._write(may_be_lost=True) as tx:
            return ringing.may_ring(tx, target)

    def look(self, *, every: timedelta) -> Look | None:
        # A look that counts as not taken is taken again.
        with self._write(may_be_lost=True) as tx:
            return looking.look(tx) if looking.win_the_look(tx, every) else None

    # -- settling -----------------------------------------------------------

    def end_ready(self, job: JobId, *, limit: int) -> int:
        with self._write() as tx:
            return ending.end_ready(tx, job, limit)

    def settle(self, job: JobId) -> JobStatus | None:
        # A job that counts as running again is settled by the next look.
        with self._write(may_be_lost=True) as tx:
            return ending.settle(tx, job)

    def settle_done(self, jobs: Sequence[JobId]) -> Closing:
        # As with one.
        with self._write(may_be_lost=True) as tx:
            return settling.settle_done(tx, jobs)

    def owed(self, *, limit: int) -> Sequence[Owed]:
        with self._read() as tx:
            return ending.owed(tx, limit)

    def pay(self, job: JobId) -> None:
        with self._write() as tx:
            ending.pay(tx, job)

    # -- commands -----------------------------------------------------------

    def pause(self, job: JobId, who: Who) -> None:
        origin, goal = JobState.RUNNING, JobState.PAUSED
        with self._write() as tx:
            ending.move(tx, job, origin=origin, goal=goal, kind="job.paused", who=who)

    def resume(self, job: JobId, who: Who, *, valid_for: timedelta | None = None) -> None:
        kind, origin, goal = "job.resumed", JobState.PAUSED, JobState.RUNNING
        with self._write() as tx:
            ending.move(tx, job, origin=origin, goal=goal, kind=kind, who=who, valid_for=valid_for)

    def cancel(self, job: JobId, who: Who) -> None:
        reason = who.reason or (f"cancelled by {who.by}" if who.by else "cancelled")
        with self._write() as tx:
            ending.wish_to_end(tx, job, "cancel", reason, who)

    def accept_target(self, job: JobId, who: Who, *, fingerprint: str) -> None:
        with self._write() as tx:
            ending.accept_target(tx, job, who, fingerprint)

    def approve(
        self,
        job: JobId,
        who: Who,
        *,
        valid_for: timedelta | None = None,
        digest: str | None = None,
    ) -> None:
        with self._write() as tx:
            ending.move(
                tx,
                job,
                origin=JobState.AWAITING_APPROVAL,
                goal=JobState.PLANNING,
                kind="job.approved",
                who=who,
                valid_for=valid_for,
                digest=digest,
            )

    def decline(self, job: JobId, who: Who) -> None:
        reason = who.reason or (f"declined by {who.by}" if who.by else "declined")
        with self._write() as tx:
            ending.decline(tx, job, reason, who)

    def forget(self, target: str, key: bytes, who: Who) -> Forgotten:
        with self._write() as tx:
            forgotten = forgetting.forget(tx, target, key, who)
        self.sweep()
        return forgotten

    # -- protected keys -----------------------------------------------------

    def protect(
        self,
        target: str,
        texts: Mapping[bytes, str],
        who: Who,
        *,
        until: datetime | timedelta | None = None,
    ) -> Protected:
        with self._write() as tx:
            return protecting.protect(tx, target, texts, who, until)

    def unprotect(self, target: str, keys: Collection[bytes], who: Who) -> Unprotected:
        with self._write() as tx:
            return protecting.unprotect(tx, target, keys, who)

    def protection(self, target: str, key: bytes) -> Protection | None:
        with self._read() as tx:
            return protecting.protection(tx, target, key)

    def protections(self, target: str, *, after: bytes, limit: int) -> Sequence[Protection]:
        with self._read() as tx:
            return protecting.protections(tx, target, after, limit)

    # -- standing orders ----------------------------------------------------

    def register_purge(self, name: str, *, digest: str) -> PurgeNote:
        with self._write() as tx:
            return purging.register(tx, name, digest)

    def purge(self, name: str) -> PurgeNote:
        with self._read() as tx:
            return purging.note(tx, name)

    def run_purge(
        self, name: str, decide: Callable[[PurgeNote], Decision | None], *, who: Who
    ) -> PurgeRun | None:
        with self._write() as tx:
            return purging.run(tx, name, decide, who)

    def purge_runs(self, name: str, *, limit: int) -> Sequence[RunStatus]:
        with self._read() as tx:
            return purging.runs(tx, name, limit)

    def purge_succeeded_at(self, name: str) -> datetime | None:
        with self._read() as tx:
            return purging.succeeded_at(tx, name)

    def note_tick(self) -> None:
        with self._write() as tx:
            purging.note_tick(tx)

    def ticked(self) -> timedelta | None:
        with self._read() as tx:
            return purging.ticked(tx)

    # -- pruning ------------------------------------------------------------

    def outdated(self, *, limit: int) -> Outdated:
        with self._read() as tx:
            return pruning.outdated(tx, limit)

    def prune(self, job: JobId, *, limit: int) -> bool:
        with self._write() as tx:
            return pruning.prune(tx, job, limit)

    def prune_runs(self, *, before: timedelta, limit: int) -> int:
        with self._write() as tx:
            return purging.drop_old_runs(tx, before, limit)

    def note_pruning(self, who: Who, *, pruned: int, declined: int) -> None:
        with self._write() as tx:
            pruning.note(tx, who, pruned=pruned, declined=declined)

    def sweep(self) -> None:
        with _telling():
            self.dialect.sweep()

    # -- reading ------------------------------------------------------------

    def job(self, job: JobId) -> Job:
        with self._read() as tx:
            return as_job(job_row(tx, job))

    def status(self, job: JobId) -> JobStatus:
        with self._read() as tx:
            return reading.status_of(tx, job_row(tx, job), tx.now())

    def jobs(self, *, limit: int) -> Sequence[JobStatus]:
        with self._read() as tx:
            return reading.newest_jobs(tx, limit, tx.now())

    def tally(self, job: JobId) -> Tally:
        with self._read() as tx:
            return reading.tally_of(tx, job_row(tx, job).seq)

    def results(
        self, job: JobId, *, verdict: Verdict | None, after: int, limit: int, size: int
    ) -> Page:
        with self._read() as tx:
            return reading.page(tx, job, verdict, after=after, limit=limit, size=size)

    def sample(self, job: JobId, *, limit: int) -> Sequence[str]:
        with self._read() as tx:
            return reading.sample(tx, job, limit)

    def mentions(self, key: bytes, *, limit: int) -> Sequence[Mention]:
        with self._read() as tx:
            return reading.mentions(tx, key, limit)

    def target_note(self, target: str) -> TargetNote:
        with self._read() as tx:
            return noting.target_note(tx, target, tx.now())

    def job_note(self, job: JobId) -> JobNote:
        with self._read() as tx:
            return noting.job_note(tx, job)

    def measure(self) -> Measures:
        with self._read() as tx:
            return measuring.measure(tx)

    def events(self, job: JobId | None, *, limit: int) -> Iterator[Event]:
        with self._read() as tx:
            return iter(reading.newest_events(tx, job, limit))

    def close(self) -> None:
        self.dialect.engine.dispose()


@contextmanager
def _telling() -> Iterator[None]:
    """Turn the drivers' errors of a store that is away into ours.

    Among them are lost connections, locks that did not come, deadlocks and a
    server that only reads: all of them pass, and what was asked may be repeated.
    """
    try:
        yield
    except (OperationalError, InternalError) as error:
        raise StoreUnavailable(f"the store does not answer: {error.orig}") from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise StoreUnavailable(f"the store went away: {error.orig}") from error
    except PoolTimeout as error:
        raise StoreUnavailable("the store does not answer: no connection is free") from error
