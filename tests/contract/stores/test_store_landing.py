"""How jobs and their items come into every store."""

import threading

import pytest

from api_adapters.base import Item
from tests.contract.stores.steps import Steps, refusal
from tests.factories import (
    SECOND,
    Clock,
    chunk_of,
    keys,
    landed,
    new_job,
    refused_at_the_door,
    some_id,
)
from tests.fakes import ScriptedAdapter
from worker.admitting import admit
from worker.job import JobState
from worker.store.base import Store


def test_a_submitted_job_is_to_be_planned(store: Store) -> None:
    job = store.submit(new_job(requested_by="billing"), chunk_of(keys(3)))

    assert (job.state, job.items, job.duplicates) == (JobState.PLANNING, 3, 0)
    assert (job.requested_by, job.approved, job.started_at) == ("billing", False, None)


def test_the_moment_of_a_job_is_the_stores(store: Store, clock: Clock) -> None:
    job = store.submit(new_job(), chunk_of(keys(1)))

    assert job.created_at == clock()


def test_a_submission_twice_is_one_job(store: Store, clock: Clock) -> None:
    new = new_job()
    first = store.submit(new, chunk_of(keys(3)))
    clock.advance()

    assert store.submit(new, chunk_of(keys(3))) == first
    assert len(store.jobs(limit=10)) == 1


def test_a_submission_twice_answers_what_became_of_it(store: Store, steps: Steps) -> None:
    new = new_job()
    job = store.submit(new, chunk_of(keys(3))).id
    steps.planned(job)
    steps.work_off(job)

    assert store.submit(new, chunk_of(keys(3))).state is JobState.COMPLETED


def test_an_id_stands_for_one_content(store: Store) -> None:
    new = new_job()
    store.submit(new, chunk_of(keys(3)))

    with refusal("job_conflict"):
        store.submit(new, chunk_of(keys(4)))


@pytest.mark.parametrize(
    "changes",
    [{"target": "erp"}, {"dry_run": True}, {"requested_by": "x"}, {"notify": "crm"}],
)
def test_an_id_stands_for_one_set_of_options(store: Store, changes: dict[str, object]) -> None:
    new = new_job()
    store.submit(new, chunk_of(keys(3)))

    with refusal("job_conflict"):
        store.submit(new_job(id=new.id, **changes), chunk_of(keys(3)))


def test_an_open_job_stands_for_one_set_of_options(store: Store) -> None:
    new = new_job(chunk_items=5)
    first = store.open(new)

    assert store.open(new) == first
    with refusal("job_conflict"):
        store.open(new_job(id=new.id, chunk_items=6))


def test_an_open_job_is_no_submitted_one(store: Store) -> None:
    new = new_job()
    store.open(new)

    with refusal("job_conflict"):
        store.submit(new, chunk_of(keys(1)))


def test_a_submission_counts_the_duplicates_that_were_dropped(store: Store) -> None:
    rows = [landed(0, "a"), landed(2, "b")]

    job = store.submit(new_job(), chunk_of(rows, given=4))

    assert (job.items, job.duplicates) == (2, 2)


def test_a_submission_of_nothing_completes(store: Store, steps: Steps) -> None:
    job = steps.planned(steps.submitted(0))

    status = store.settle(job)

    assert status is not None
    assert (status.job.state, status.pending) == (JobState.COMPLETED, 0)


def test_chunks_come_in_any_order(store: Store, steps: Steps) -> None:
    job = store.open(new_job(chunk_items=2)).id
    store.append(job, chunk_of(["e"], number=2, start=4))
    assert store.seal(job, 3).missing == (0, 1)
    store.append(job, chunk_of(["a", "b"], number=0, start=0))

    assert store.append(job, chunk_of(["c", "d"], number=1, start=2)).id == job

    assert store.job(job).state is JobState.PLANNING
    assert store.sample(job, limit=9) == ['"a"', '"b"', '"c"', '"d"', '"e"']


def test_a_seal_after_the_last_chunk_lets_the_job_go_on(store: Store) -> None:
    job = store.open(new_job(chunk_items=2)).id
    store.append(job, chunk_of(["a"]))

    sealed = store.seal(job, 1)

    assert (sealed.state, sealed.missing) == (JobState.PLANNING, ())


def test_a_job_of_no_chunks_can_be_sealed(store: Store) -> None:
    job = store.open(new_job()).id

    assert store.seal(job, 0).state is JobState.PLANNING


def test_at_most_a_hundred_missing_chunks_are_told(store: Store) -> None:
    job = store.open(new_job()).id

    assert store.seal(job, 500).missing == tuple(range(100))


def test_a_chunk_that_comes_twice_lands_once(store: Store) -> None:
    job = store.open(new_job(chunk_items=2)).id
    chunk = chunk_of(["a", "b"])
    store.append(job, chunk)

    assert store.append(job, chunk).id == job
    assert store.job(job).items == 2


def test_a_chunk_that_comes_again_after_the_end_is_answered(store: Store, steps: Steps) -> None:
    job = store.open(new_job(chunk_items=2)).id
    store.append(job, chunk_of(["a", "b"]))
    store.seal(job, 1)
    steps.planned(job)
    steps.work_off(job)

    assert store.append(job, chunk_of(["a", "b"])).id == job
    assert store.seal(job, 1).state is JobState.COMPLETED


def test_a_number_stands_for_one_chunk_before_and_after_the_seal(store: Store) -> None:
    job = store.open(new_job(chunk_items=2)).id
    store.append(job, chunk_of(["a", "b"]))

    with refusal("job_conflict"):
        store.append(job, chunk_of(["a", "c"]))
    store.seal(job, 1)
    with refusal("job_conflict"):
        store.append(job, chunk_of(["a", "c"]))


def test_a_sealed_job_takes_its_missing_chunks_and_no_other(store: Store) -> None:
    job = store.open(new_job(chunk_items=1)).id
    store.append(job, chunk_of(["a"]))
    store.seal(job, 2)

    with refusal("job_sealed"):
        store.append(job, chunk_of(["c"], number=2, start=2))
    store.append(job, chunk_of(["b"], number=1, start=1))
    assert store.job(job).state is JobState.PLANNING


def test_a_job_that_is_planned_takes_no_more(store: Store, steps: Steps) -> None:
    job = steps.submitted(2)

    with refusal("job_sealed"):
        store.append(job, chunk_of(["z"], number=1, start=10_000))


def test_a_job_that_was_cancelled_while_open_takes_no_more(store: Store) -> None:
    job = store.open(new_job()).id
    store.stop(job, reason="no")

    with refusal("job_sealed"):
        store.append(job, chunk_of(["z"]))
    with refusal("wrong_state"):
        store.seal(job, 1)


def test_a_job_is_sealed_with_one_number(store: Store) -> None:
    job = store.open(new_job()).id
    store.seal(job, 3)

    assert store.seal(job, 3).missing == (0, 1, 2)
    with refusal("job_conflict"):
        store.seal(job, 4)


def test_a_seal_below_the_landed_chunks_is_refused(store: Store) -> None:
    job = store.open(new_job(chunk_items=1)).id
    store.append(job, chunk_of(["b"], number=1, start=1))

    with refusal("wrong_state"):
        store.seal(job, 1)
    assert store.job(job).state is JobState.OPEN


def test_an_uneven_chunk_that_is_not_the_last_is_refused(store: Store) -> None:
    job = store.open(new_job(chunk_items=2)).id
    store.append(job, chunk_of(["a"]))

    with refusal("wrong_state"):
        store.seal(job, 2)


def test_no_job_is_fed_that_is_not_there(store: Store) -> None:
    with refusal("unknown_job"):
        store.append(some_id(), chunk_of(["a"]))
    with refusal("unknown_job"):
        store.seal(some_id(), 1)


def test_duplicates_across_chunks_keep_the_lowest_position(store: Store) -> None:
    job = store.open(new_job(chunk_items=3)).id
    store.append(job, chunk_of(["b", "a", "d"], number=1, start=3))
    store.append(job, chunk_of(["a", "b", "a"], number=0, start=0))
    store.seal(job, 2)

    counted = store.drop_duplicates(job)

    assert (counted.items, counted.duplicates) == (3, 3)
    assert store.drop_duplicates(job) == counted
    assert [place[0] for place in store.places(job, after=-1, limit=9)] == [0, 1, 5]


@pytest.mark.parametrize(
    ("chunks", "duplicates"),
    [
        ([[1, 2, 9], [10, 11]], 0),
        ([[1, 2, 3], [3, 4]], 1),
        ([[4, 5, 6], [1, 2, 3]], 0),
        ([[4, 5, 6], [1, 5, 7]], 1),
        ([[4, 5, 6], [7, 8, 9], [8, 10]], 1),
        ([[1, 2, 3], ["3", "5"]], 1),
        ([[10, 11, 12], ["13", "14"]], 0),
        ([["aa", "ab"], ["ba", "bb"], ["bb"]], 1),
        ([[1, 3, 2], [3]], 1),
    ],
)
def test_duplicates_of_chunks_that_ascend_are_found(
    store: Store, chunks: list[list[Item]], duplicates: int
) -> None:
    job = store.open(new_job(chunk_items=max(map(len, chunks)))).id
    adapter = ScriptedAdapter()
    for number, items in enumerate(chunks):
        chunk = admit(
            items,
            target="crm",
            key_of=adapter.key,
            keys_of=adapter.keys,
            number=number,
            chunk_items=len(chunks[0]),
        )
        store.append(job, chunk)
    store.seal(job, len(chunks))

    counted = store.drop_duplicates(job)

    given = sum(map(len, chunks))
    assert (counted.items, counted.duplicates) == (given - duplicates, duplicates)


def test_items_refused_at_the_door_are_no_duplicates_of_each_other(store: Store) -> None:
    rows = [refused_at_the_door(0, {"x": 1}), refused_at_the_door(1, {"x": 1}), landed(2, "a")]
    job = store.submit(new_job(), chunk_of(rows)).id

    assert store.drop_duplicates(job).items == 3


@pytest.mark.parametrize(
    "item",
    ["a", "", 0, 2**70, {"b": 1, "a": {"__type__": "datetime"}}, "\ud800", "ä\x00", "1"],
)
def test_an_item_comes_out_as_it_came_in(store: Store, steps: Steps, item: object) -> None:
    job = steps.submitted([item])  # type: ignore[list-item]
    steps.planned(job)
    claim = steps.claim()
    steps.record(claim)

    assert claim.batches[0].items[0].item == item
    assert steps.outcomes(job)[0].item == item


def test_many_senders_of_one_chunk_land_it_once(store: Store) -> None:
    job = store.open(new_job(chunk_items=50)).id
    chunk = chunk_of(keys(50))
    answers: list[int | None] = []
    senders = [
        threading.Thread(target=lambda: answers.append(store.append(job, chunk).items))
        for _ in range(4)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    assert answers == [50] * 4
    assert store.job(job).items == 50


def test_a_job_that_nobody_feeds_for_a_day_is_cancelled(
    store: Store, steps: Steps, clock: Clock
) -> None:
    fed, left = (store.open(new_job(chunk_items=1)).id for _ in range(2))
    clock.advance(SECOND * 3600 * 23)
    store.append(fed, chunk_of(["a"]))
    clock.advance(SECOND * 3600 + SECOND)

    look = store.look(every=SECOND)

    assert store.job(fed).state is JobState.OPEN
    assert store.job(left).reason == "nobody fed it for a day"
    assert steps.end(left).job.state is JobState.CANCELLED
    assert look is not None
