"""The one thing that a job waits for, as a sentence with what to do about it."""

from dataclasses import dataclass
from datetime import timedelta

from worker.job import JobState, JobStatus
from worker.store.base import JobNote, TargetNote
from worker.target import Target


@dataclass(frozen=True, slots=True)
class Explanation:
    """A word for programs and a sentence for people.

    The words are those of `waiting_for`, and where a job waits for nothing of
    the kind: `ended`, `planning`, `paused`, `ending`, `target_changed`,
    `working` and `its_turn`.
    """

    word: str
    sentence: str


def explain(
    status: JobStatus, note: JobNote, *, beside: TargetNote, target: Target | None
) -> Explanation:
    """Why a job is not further on; `target` is None where none is configured any more."""
    job = status.job
    match job.state:
        case JobState.OPEN:
            return _explain_open(note)
        case JobState.PLANNING:
            return _explain_planning(status, note, target)
        case JobState.AWAITING_APPROVAL:
            what = f"a person has to look at it: {job.reason}"
            bound = f" --digest {job.items_digest}" if job.items_digest else ""
            how = f"deletions approve {job.id}{bound}, or decline"
            return Explanation("approval", f"{what}; {how}")
        case JobState.PAUSED:
            return Explanation("paused", f"it is paused: deletions resume {job.id}")
        case JobState.CANCELLING:
            out = status.batches["leased"]
            return Explanation("ending", f"it is ending, {out} batches are out: {job.reason}")
        case JobState.RUNNING:
            return _explain_running(status, note, beside, target)
    reason = f": {job.reason}" if job.reason else ""
    return Explanation("ended", f"it has ended, {job.state}{reason}")


def _explain_open(note: JobNote) -> Explanation:
    if note.chunks_wanted is None:
        said = f"{note.chunks_landed} chunks have landed, and nobody has said how many there are"
        return Explanation("seal", f"{said}: deletions.seal")
    missing = note.chunks_wanted - note.chunks_landed
    said = f"{missing} of {note.chunks_wanted} chunks have not landed: send them with"
    return Explanation("seal", f"{said} deletions.append")


def _explain_planning(status: JobStatus, note: JobNote, target: Target | None) -> Explanation:
    job = status.job
    if job.is_to_be_found and (target is None or target.fingerprint != job.fingerprint):
        return _changed(status)
    what = "found" if job.is_to_be_found else "cut into batches"
    if note.is_planned:
        so_far = f", {job.items:,} so far" if job.items else ""
        return Explanation("planning", f"a worker is at it: its items are being {what}{so_far}")
    return Explanation("workers", f"no worker has begun yet: its items are to be {what}")


def _explain_running(
    status: JobStatus, note: JobNote, beside: TargetNote, target: Target | None
) -> Explanation:
    if target is None or target.fingerprint != status.job.fingerprint:
        return _changed(status)
    if status.batches["leased"]:
        said = f"nothing: {status.batches['leased']} of its batches are being worked on"
        return Explanation("working", said)
    if (resting := _explain_target(note, beside)) is not None:
        return resting
    if note.next_try is not None:
        last = f" after: {note.cause}" if note.cause else ""
        return Explanation("retry_at", f"its next attempt is{_in(note.next_try)}{last}")
    if beside.live_leases >= target.limits.max_in_flight:
        said = f"other jobs have all {target.limits.max_in_flight} places of its target"
        return Explanation("target_busy", f"{said} (max_in_flight); its turn comes")
    if status.waiting_for == "workers":
        return Explanation("workers", "no worker comes to the target's bell: is one running?")
    return Explanation("its_turn", "nothing: its batches are ready, and its turn comes")


def _explain_target(note: JobNote, beside: TargetNote) -> Explanation | None:
    """Why the whole target is left alone, if it is."""
    if beside.closed_reason is not None:
        again = f"; it is tried again{_in(beside.rests_for)}, or at once: deletions targets check"
        return Explanation("circuit", f"the target lets nobody in: {beside.closed_reason}{again}")
    if beside.circuit.is_open:
        said = f"the target failed {beside.circuit.failing} times in a row"
        last = f" ({note.cause})" if note.cause else ""
        return Explanation("circuit", f"{said}{last}; one call is tried{_in(beside.rests_for)}")
    if beside.rests_for is not None:
        said = "the target has told us to wait, or its requests_per_second are used up"
        return Explanation("pace", f"{said}; it goes on{_in(beside.rests_for)}")
    return None


def _changed(status: JobStatus) -> Explanation:
    """No worker that is configured as this one may touch it."""
    said = f"target '{status.job.target}' is not configured as it was when the job came"
    how = f"deletions resume {status.job.id} --accept-target, or cancel"
    return Explanation("target_changed", f"{said}: {how}")


def _in(length: timedelta | None) -> str:
    """A length of time from now, for people.

    >>> _in(timedelta(seconds=90)), _in(None)
    (' in 90 s', ' now')
    """
    seconds = 0 if length is None else max(0, round(length.total_seconds()))
    return f" in {seconds} s" if seconds else " now"
