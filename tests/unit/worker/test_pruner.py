"""What is dropped, in strides, and what is told of it."""

from datetime import timedelta

import pytest

from tests.factories import keys
from tests.fakes import AwayStore, House
from worker.job import JobId, JobState
from worker.pruner import Pruned, Pruner
from worker.store.base import Who

DAY = timedelta(days=1)
ANN = Who(os_user="ann", by="Ann")


@pytest.fixture
def house() -> House:
    return House()


def dry(house: House, count: int = 3) -> JobId:
    """A dry run, whose items are kept for a week."""
    job = house.submitted(keys(count), dry_run=True)
    house.clock.advance(8 * DAY)
    return job


def kinds(house: House) -> list[str]:
    return [one.kind for one in house.store.events(None, limit=99)]


def test_what_is_old_is_dropped_and_told_once(house: House) -> None:
    job = dry(house)

    done = Pruner(house.store).prune(Who())

    assert done == Pruned(jobs=(job,))
    assert house.store.sample(job, limit=9) == []
    assert kinds(house).count("store.pruned") == 1


def test_a_look_of_the_clock_that_finds_nothing_is_no_event(house: House) -> None:
    house.submitted(keys(3))

    assert Pruner(house.store).prune(Who()) == Pruned()
    assert "store.pruned" not in kinds(house)


def test_whoever_prunes_by_hand_is_told_even_so(house: House) -> None:
    Pruner(house.store).prune(ANN)

    (event,) = house.store.events(None, limit=1)
    assert (event.kind, event.by, event.detail) == (
        "store.pruned",
        "Ann",
        {"jobs": 0, "declined": 0},
    )


def test_many_jobs_are_pruned_in_one_go(house: House) -> None:
    jobs = [house.submitted(["a"], dry_run=True) for _ in range(250)]
    house.clock.advance(8 * DAY)

    assert Pruner(house.store).prune(Who()).jobs == tuple(jobs)


def test_pruning_that_is_broken_off_goes_on_the_next_time(house: House) -> None:
    job = dry(house, 2_500)
    ends = iter([False, False, False, True])
    pruner = Pruner(house.store)

    first = pruner.prune(Who(), is_over=lambda: next(ends, True))
    left = len(house.store.sample(job, limit=9_999))
    second = pruner.prune(Who())

    assert (first.jobs, second.jobs) == ((), (job,))
    assert 0 < left < 2_500


def test_whoever_approves_while_it_prunes_has_approved(house: House) -> None:
    held = house.landed(["a"])
    house.store.hold(held, reason="look at it")
    house.clock.advance(8 * DAY)
    store = AwayStore(house.store)
    store.before("decline", lambda: house.store.approve(held, ANN))

    done = Pruner(store).prune(Who())  # type: ignore[arg-type]  # stands before one

    assert done.declined == ()
    assert house.state(held) is JobState.PLANNING
