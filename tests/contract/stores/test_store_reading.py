"""What every store tells of jobs and items."""

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps, refusal
from tests.factories import (
    MINUTE,
    SECOND,
    Clock,
    all_marked,
    appetite,
    chunk_of,
    final,
    keys,
    landed,
    new_job,
    some_id,
)
from worker.item import Mark, digest_of_key
from worker.job import JobId, JobState
from worker.store.base import CallNote, Store, TargetNote, Who


def mixed(store: Store, steps: Steps) -> JobId:
    """Nine items in three ranges: even ones deleted, odd ones absent, the last open."""
    job = steps.running(9, size=3)
    claim = steps.claim(appetite(call_items=9))
    marks = [
        {
            item.position: final(Verdict.ABSENT if item.position % 2 else Verdict.DELETED)
            for item in one.items
        }
        for one in claim.batches
    ]
    marks[2][8] = Mark(doubt=True, calls=1)
    steps.record_marks(claim, marks)
    return job


def test_results_are_paged_by_position(store: Store, steps: Steps) -> None:
    job = mixed(store, steps)

    first = store.results(job, verdict=None, after=-1, limit=5, size=10_000)
    assert [row.position for row in first.rows] == [0, 1, 2, 3, 4]
    assert first.next == 4
    second = store.results(job, verdict=None, after=4, limit=5, size=10_000)
    assert [row.position for row in second.rows] == [5, 6, 7]


def test_the_last_page_says_that_it_is_the_last(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    steps.work_off(job)

    assert store.results(job, verdict=None, after=-1, limit=4, size=10_000).next is None
    assert store.results(job, verdict=None, after=-1, limit=3, size=10_000).next == 2
    assert store.results(job, verdict=None, after=3, limit=3, size=10_000).rows == ()


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_results_of_one_verdict_are_paged(store: Store, steps: Steps, limit: int) -> None:
    job = mixed(store, steps)
    found: list[int] = []
    after: int | None = -1
    while after is not None:
        page = store.results(job, verdict=Verdict.ABSENT, after=after, limit=limit, size=10_000)
        found += [row.position for row in page.rows]
        assert len(page.rows) <= limit
        assert page.next is None or page.next > after
        after = page.next

    assert found == [1, 3, 5, 7]


def test_a_verdict_that_no_item_has_has_no_results(store: Store, steps: Steps) -> None:
    assert steps.outcomes(mixed(store, steps), Verdict.DENIED) == []


def test_open_items_are_no_results(store: Store, steps: Steps) -> None:
    job = mixed(store, steps)

    assert 8 not in steps.verdicts(job)
    assert store.status(job).pending == 1


def test_a_page_holds_so_many_bytes_and_one_row_at_least(store: Store, steps: Steps) -> None:
    job = steps.running(["x" * 98, "y" * 98, "z" * 998, "last"])
    steps.work_off(job)
    sizes = []
    after: int | None = -1
    while after is not None:
        page = store.results(job, verdict=None, after=after, limit=100, size=200)
        sizes.append(len(page.rows))
        after = page.next

    assert sizes == [2, 1, 1]


def test_results_skip_the_holes_of_duplicates(store: Store, steps: Steps) -> None:
    job = steps.running(["a", "a", "b", "a", "b", "c"], size=1)
    steps.work_off(job)

    assert list(steps.verdicts(job)) == [0, 2, 5]


def test_results_of_many_ranges_are_read_in_order(store: Store, steps: Steps) -> None:
    job = steps.running(450, size=1)
    steps.work_off(job)
    found = store.results(job, verdict=None, after=-1, limit=1000, size=100_000)

    assert [row.position for row in found.rows] == list(range(450))
    assert found.next is None


def test_a_result_looks_as_the_contract_says(store: Store, steps: Steps) -> None:
    job = steps.running([{"id": 1}])
    steps.work_off(job)

    assert steps.outcomes(job)[0].as_json() == {
        "position": 0,
        "item": {"id": 1},
        "verdict": "deleted",
        "evidence": "item",
        "code": None,
        "message": None,
        "attempts": 1,
        "decided_at": "2026-01-02T03:04:05.000Z",
    }


def test_no_job_is_read_that_is_not_there(store: Store) -> None:
    with refusal("unknown_job"):
        store.job(some_id())
    with refusal("unknown_job"):
        store.status(some_id())
    with refusal("unknown_job"):
        store.results(some_id(), verdict=None, after=-1, limit=1, size=1)


def test_the_newest_jobs_come_first(store: Store, steps: Steps) -> None:
    jobs = [steps.submitted() for _ in range(3)]

    assert [status.job.id for status in store.jobs(limit=2)] == [jobs[2], jobs[1]]


def test_a_status_holds_the_tally_so_far(store: Store, steps: Steps) -> None:
    status = store.status(mixed(store, steps))

    assert (status.tally[Verdict.DELETED], status.tally[Verdict.ABSENT]) == (4, 4)
    assert set(status.tally) == set(Verdict)
    assert (status.batches, status.children) == (
        {"ready": 1, "leased": 0, "done": 2, "split": 0},
        (),
    )


def test_a_sample_shows_the_first_items(store: Store, steps: Steps) -> None:
    job = steps.submitted(["a", 2, {"id": 3}, "d"])

    assert store.sample(job, limit=3) == ['"a"', "2", '{"id":3}']


def test_an_item_is_found_in_every_job_that_named_it(store: Store, steps: Steps) -> None:
    older = steps.running(["a", "b"])
    steps.work_off(older)
    newer = store.submit(new_job(requested_by="billing"), chunk_of(["c", "b"])).id

    found = store.mentions(digest_of_key("crm", "b"), limit=9)

    assert [(one.job, one.outcome.position) for one in found] == [(newer, 1), (older, 1)]
    assert [one.state for one in found] == [JobState.PLANNING, JobState.COMPLETED]
    assert [one.outcome.mark.verdict for one in found] == [None, Verdict.DELETED]
    assert found[0].requested_by == "billing"
    assert found[1].outcome.item == "b"
    assert len(store.mentions(digest_of_key("crm", "b"), limit=1)) == 1


def test_an_item_is_found_where_it_differs_from_its_range(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    claim = steps.claim()
    steps.record_marks(claim, [all_marked(claim.batches[0], final()) | {1: final(Verdict.DENIED)}])

    found = store.mentions(digest_of_key("crm", "k1"), limit=9)
    assert [(one.job, one.outcome.mark.verdict) for one in found] == [(job, Verdict.DENIED)]
    assert store.mentions(digest_of_key("crm", "never"), limit=9) == []


def test_a_target_note_says_what_holds_it_back(store: Store, steps: Steps, clock: Clock) -> None:
    assert store.target_note("crm") == TargetNote()
    steps.running(20)
    claim = steps.claim()
    store.record(claim.lease, [], call=CallNote(SECOND, answered=True, rest=MINUTE))

    note = store.target_note("crm")
    assert (note.rests_for, note.live_leases) == (MINUTE, 1)


def test_events_come_newest_first(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running()
    clock.advance()
    store.pause(job, Who(by="Ada"))
    clock.advance()
    store.resume(job, Who(by="Bob"))

    assert [event.by for event in store.events(job, limit=2)] == ["Bob", "Ada"]
    assert {event.job for event in store.events(job, limit=99)} == {job}
    assert len(list(store.events(None, limit=1))) == 1


# -- what a job waits for ----------------------------------------------------


def test_an_open_job_waits_for_its_seal(store: Store) -> None:
    assert store.status(store.open(new_job()).id).waiting_for == "seal"


def test_a_held_job_waits_for_approval(store: Store, steps: Steps) -> None:
    job = steps.submitted()
    store.hold(job, reason="large")

    assert store.status(job).waiting_for == "approval"


def test_a_job_that_nobody_plans_waits_for_workers(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.submitted()
    assert store.status(job).waiting_for is None
    clock.advance(SECOND * 6)
    assert store.status(job).waiting_for == "workers"

    store.begin_planning(job, holder="w1", lasting=MINUTE)

    assert store.status(job).waiting_for is None


def test_a_job_of_a_target_that_rests_waits_for_its_pace(store: Store, steps: Steps) -> None:
    job = steps.running(20)
    claim = steps.claim()
    store.record(claim.lease, [], call=CallNote(SECOND, answered=True, rest=MINUTE))
    steps.give_back_unsent(claim)

    assert store.status(job).waiting_for == "pace"


@pytest.mark.parametrize("held", ["circuit", "pace"])
def test_a_target_that_is_held_back_is_told_while_a_call_is_out(
    store: Store, steps: Steps, held: str
) -> None:
    job = steps.running(20)
    claim = steps.claim()
    if held == "circuit":
        store.close_target("crm", reason="login", rest=MINUTE)
    store.record(claim.lease, [], call=CallNote(SECOND, answered=held == "pace", rest=MINUTE))

    assert store.status(job).waiting_for == held


def test_a_job_behind_another_waits_for_the_target(store: Store, steps: Steps) -> None:
    steps.running(20)
    behind = steps.running(20)
    steps.claim(appetite(places=1))

    assert store.status(behind).waiting_for == "target_busy"


def test_a_job_that_is_served_waits_for_nothing(store: Store, steps: Steps) -> None:
    job = steps.running(20)
    steps.claim()

    assert store.status(job).waiting_for is None


def test_a_job_whose_bell_nobody_answers_waits_for_workers(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running(20)
    assert store.status(job).waiting_for == "workers"
    store.may_ring("crm")
    assert store.status(job).waiting_for is None
    clock.advance(SECOND * 6)

    assert store.status(job).waiting_for == "workers"


def test_a_job_that_does_not_run_waits_for_nothing(store: Store, steps: Steps) -> None:
    paused, ending, ended = steps.running(keys(3)), steps.running(), steps.submitted(0)
    store.pause(paused, Who())
    store.cancel(ending, Who())
    steps.planned(ended)
    store.settle(ended)

    waits = [store.status(job).waiting_for for job in (paused, ending, ended)]
    assert waits == [None, None, None]


def test_two_keys_that_begin_alike_are_two_items(store: Store, steps: Steps) -> None:
    one, other = (landed(at, f"k{at}")._replace(key=b"12345678" + bytes([at]) * 8) for at in (1, 2))
    again = landed(3, "again")._replace(key=one.key)
    job = steps.planned(steps.submitted([one, other, again]))
    steps.record(steps.claim())
    assert store.settle(job)

    assert store.job(job).items == 2
    assert other.key
    assert [found.outcome.position for found in store.mentions(other.key, limit=9)] == [2]
    assert store.forget("crm", other.key, Who()).forgotten == 1
    assert store.mentions(other.key, limit=9) == []
    assert one.key
    assert [found.outcome.position for found in store.mentions(one.key, limit=9)] == [1]


def test_an_item_is_found_wherever_it_landed(store: Store, steps: Steps) -> None:
    job = store.open(new_job(chunk_items=3)).id
    for number in (2, 0, 1):
        items = [f"c{number}-0", "doubled", f"c{number}-2"]
        store.append(job, chunk_of(items, number=number, start=3 * number))
    store.seal(job, 3)
    steps.planned(job)

    found = {
        name: [one.outcome.position for one in store.mentions(digest_of_key("crm", name), limit=9)]
        for name in ("c0-0", "doubled", "c1-2", "c2-2")
    }
    assert found == {"c0-0": [0], "doubled": [1], "c1-2": [5], "c2-2": [8]}
