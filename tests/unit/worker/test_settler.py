"""The settler: a job is closed once, when nothing of it is open."""

import pytest

from tests.factories import keys, some_id
from tests.fakes import House
from worker import settler as settling
from worker.errors import RefusedRequest
from worker.job import JobState
from worker.store.base import Who


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=2)


def test_a_job_is_closed_once(house: House) -> None:
    job = house.submitted(keys(3))
    house.work()

    closed = house.settler.settle(job)

    assert closed is not None
    assert (closed.job.state, closed.pending) == (JobState.COMPLETED, 0)
    assert house.settler.settle(job) is None


def test_a_job_with_open_batches_stays_open(house: House) -> None:
    job = house.submitted(keys(3))

    assert house.settler.settle(job) is None
    assert house.state(job) is JobState.RUNNING


def test_a_cancelled_job_is_ended_in_strides(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "RANGES_A_STRIDE", 2)
    job = house.submitted(keys(11))
    house.store.cancel(job, Who())

    closed = house.settler.settle(job)

    assert closed is not None
    assert closed.job.state is JobState.CANCELLED
    assert set(house.told(job).values()) == {"skipped/none"}


def test_a_job_that_is_not_there_is_refused(house: House) -> None:
    with pytest.raises(RefusedRequest):
        house.settler.settle(some_id())
