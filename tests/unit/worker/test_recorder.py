"""What calls were told is recorded for all threads of a process at once."""

from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

import pytest

from tests.factories import SECOND, Clock, Seconds
from worker.batch import Batch, Returned
from worker.errors import LeaseLost, StoreUnavailable
from worker.insisting import Insistence
from worker.job import JobId
from worker.recorder import ALONG_AFTER, MOST_ALONG, RECORD_EVERY, Answers, Recorder
from worker.store.base import CallNote, LeaseId, Noted, Record
from worker.store.memory import MemoryStore


class Written(MemoryStore):
    """A store that tells what it was to record, and may refuse."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())
        #: Of each record of each transaction, its lease and the jobs of its batches.
        self.asked: list[dict[LeaseId, list[str]]] = []
        self.calls: list[int] = []
        self.lost: set[LeaseId] = set()
        self.broken: set[LeaseId] = set()
        self.away = 0
        self.is_asked = Event()
        self.may_answer = Event()
        self.may_answer.set()

    def record_many(self, records: Sequence[Record]) -> Sequence[Noted | LeaseLost]:
        self.asked.append({one.lease: [two.batch.job for two in one.returned] for one in records})
        self.calls += [one.call.failures for one in records if one.call]
        self.is_asked.set()
        assert self.may_answer.wait(20)
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        if any(one.lease in self.broken for one in records):
            raise ValueError("a text that no column holds")
        return [
            LeaseLost("gone")
            if one.lease in self.lost
            else Noted(tuple(two.batch.job for two in one.returned))
            for one in records
        ]


@pytest.fixture
def store() -> Written:
    return Written()


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def recorder(store: Written, clock: Seconds) -> Recorder:
    return Recorder(store, clock=clock, insist=Insistence(sleep=lambda _: None))


def returned(job: str) -> Returned:
    """A batch of a job."""
    return Returned(Batch(job=JobId(job), seq=1, first=0, last=0, items=1))


def begun(recorder: Recorder, lease: int, *, since: float = 100.0) -> Answers:
    """The answers of a claim, to whose one call something was told."""
    answers = Answers(LeaseId(lease), since=since)
    recorder.begin("crm", answers)
    answers.add([returned(f"job {lease}")], note=CallNote(SECOND, answered=True, failures=lease))
    return answers


def test_who_records_takes_along_what_others_kept_for_a_while(
    recorder: Recorder, store: Written, clock: Seconds
) -> None:
    mine = begun(recorder, 1)
    old = begun(recorder, 2)
    young = begun(recorder, 3, since=100 + RECORD_EVERY)
    clock.now += RECORD_EVERY + ALONG_AFTER / 2

    assert set(recorder.record("crm", mine)) == {"job 1"}
    assert store.asked == [{1: ["job 1"], 2: ["job 2"]}]
    assert store.calls == [1, 2]
    assert not recorder.is_due(old)
    # Nothing is left to be written of it, and its own thread is told of its job.
    assert set(recorder.record("crm", old)) == {"job 2"}
    assert set(recorder.record("crm", old)) == set()
    assert len(store.asked) == 1
    assert set(recorder.record("crm", young)) == {"job 3"}


def test_what_is_over_or_of_another_target_is_not_taken_along(
    recorder: Recorder, store: Written, clock: Seconds
) -> None:
    mine, other, over = begun(recorder, 1), begun(recorder, 2), begun(recorder, 3)
    recorder.end("crm", over)
    recorder.end("crm", other)
    recorder.begin("erp", other)
    clock.now += RECORD_EVERY

    recorder.record("crm", mine)

    assert store.asked == [{1: ["job 1"]}]


@pytest.mark.parametrize("loses", ["lost", "broken"])
def test_a_failure_is_told_to_the_thread_whose_answers_they_were(
    recorder: Recorder, store: Written, clock: Seconds, loses: str
) -> None:
    mine, other = begun(recorder, 1), begun(recorder, 2)
    getattr(store, loses).add(2)
    clock.now += RECORD_EVERY

    assert set(recorder.record("crm", mine)) == {"job 1"}
    # Before it has anything more to tell.
    assert recorder.is_due(other)
    with pytest.raises(LeaseLost if loses == "lost" else ValueError):
        recorder.record("crm", other)
    # What could not be written together was tried one by one.
    assert list(map(len, store.asked)) == ([2] if loses == "lost" else [2, 1, 1])


def test_while_the_store_is_away_nothing_is_forgotten(
    recorder: Recorder, store: Written, clock: Seconds
) -> None:
    mine, other = begun(recorder, 1), begun(recorder, 2)
    clock.now += RECORD_EVERY
    store.away = 2

    assert set(recorder.record("crm", mine)) == {"job 1"}
    assert store.asked == [{1: ["job 1"], 2: ["job 2"]}] * 3
    assert set(recorder.record("crm", other)) == {"job 2"}


def test_a_break_while_answers_are_taken_loses_none(
    recorder: Recorder, store: Written, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = begun(recorder, 1), begun(recorder, 2)
    clock.now += RECORD_EVERY

    def breaks() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(other, "take", breaks)
        with pytest.raises(MemoryError):
            recorder.record("crm", mine)

    assert set(recorder.record("crm", mine)) == {"job 1"}
    assert store.asked == [{1: ["job 1"], 2: ["job 2"]}]


def test_jobs_that_were_recorded_are_told_though_a_failure_followed(
    recorder: Recorder, store: Written, clock: Seconds
) -> None:
    mine, other = begun(recorder, 1), begun(recorder, 2)
    clock.now += RECORD_EVERY
    recorder.record("crm", mine)
    other.add([returned("later")])
    store.lost.add(LeaseId(2))

    with pytest.raises(LeaseLost):
        recorder.record("crm", other)
    assert set(recorder.end("crm", other)) == {"job 2"}


def test_what_is_much_does_not_go_along(recorder: Recorder, store: Written, clock: Seconds) -> None:
    mine, much, little = (begun(recorder, lease) for lease in (1, 2, 3))
    much.add([returned("much")] * MOST_ALONG)
    clock.now += RECORD_EVERY

    recorder.record("crm", mine)
    assert store.asked == [{1: ["job 1"]}]
    recorder.record("crm", much)
    assert set(store.asked[1]) == {2, 3}
    assert set(recorder.record("crm", little)) == {"job 3"}


def test_what_was_told_while_others_were_written_is_no_younger_for_it(
    recorder: Recorder, store: Written, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = begun(recorder, 1)
    record = store.record_many

    def slow(records: Sequence[Record]) -> Sequence[Noted | LeaseLost]:
        mine.add([returned("meanwhile")])
        clock.now += RECORD_EVERY + ALONG_AFTER
        return record(records)

    monkeypatch.setattr(store, "record_many", slow)
    recorder.record("crm", mine)

    assert recorder.is_due(mine)


def test_what_was_given_back_goes_before_what_came_later(
    recorder: Recorder, store: Written
) -> None:
    mine = begun(recorder, 1)
    assert mine.take() is not None
    mine.add([returned("later")])
    mine.give_back()

    assert set(recorder.record("crm", mine)) == {"job 1", "later"}
    assert store.asked == [{1: ["job 1", "later"]}]


def test_who_ends_waits_for_what_another_thread_has_on_its_way(
    recorder: Recorder, store: Written, clock: Seconds
) -> None:
    mine, other = begun(recorder, 1), begun(recorder, 2)
    clock.now += RECORD_EVERY + ALONG_AFTER
    assert recorder.is_due(other)
    store.may_answer.clear()
    told: list[Any] = []
    first = Thread(target=lambda: recorder.record("crm", mine), daemon=True)
    second = Thread(target=lambda: told.append(recorder.record("crm", other)), daemon=True)

    first.start()
    assert store.is_asked.wait(20)
    # In the midst of a claim nobody waits for it.
    assert not recorder.is_due(other)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    store.may_answer.set()
    first.join(20)
    second.join(20)

    assert list(map(set, told)) == [{"job 2"}]
    assert store.asked == [{1: ["job 1"], 2: ["job 2"]}]
