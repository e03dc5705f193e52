"""What a process sees of its leases is asked for once for all of its threads."""

from collections.abc import Collection, Mapping
from threading import Barrier, Thread

import pytest

from tests.factories import Clock, Seconds
from worker.errors import StoreUnavailable
from worker.job import JobId
from worker.store.base import LeaseId, Renewed
from worker.store.memory import MemoryStore
from worker.watching import Watch

ONE, OTHER, LATER = LeaseId(1), LeaseId(2), LeaseId(3)


class Asked(MemoryStore):
    """A store that tells what it was asked, and whose jobs all want to run."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())
        self.asked: list[set[LeaseId]] = []
        self.is_away = False
        self.has_protected = False
        self.barrier: Barrier | None = None

    def see(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, Renewed]:
        self.asked.append(set(leases))
        if self.barrier is not None:
            self.barrier.wait(10)
        if self.is_away:
            raise StoreUnavailable("away")
        return {
            lease: Renewed(frozenset({JobId(f"job of {lease}")}), has_protected=self.has_protected)
            for lease in leases
        }


@pytest.fixture
def store() -> Asked:
    return Asked()


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def watch(store: Asked, clock: Seconds) -> Watch:
    watch = Watch(store, clock=clock)
    for lease in (ONE, OTHER):
        watch.begin(lease)
    return watch


def test_one_question_answers_for_all(watch: Watch, store: Asked, clock: Seconds) -> None:
    first = watch.see(ONE, since=99.75)
    clock.now = 100.2
    second = watch.see(OTHER, since=99.95)

    assert store.asked == [{ONE, OTHER}]
    assert first == (Renewed(frozenset({JobId("job of 1")})), 100.0)
    assert second == (Renewed(frozenset({JobId("job of 2")})), 100.0)


def test_what_was_seen_too_early_is_asked_anew(watch: Watch, store: Asked, clock: Seconds) -> None:
    watch.see(ONE, since=99.75)
    clock.now = 100.3

    assert watch.see(OTHER, since=100.05)[1] == 100.3
    assert len(store.asked) == 2


def test_a_lease_that_began_since_is_asked_for(watch: Watch, store: Asked) -> None:
    watch.see(ONE, since=99.75)
    watch.begin(LATER)

    assert watch.see(LATER, since=99.75)[0].running == {JobId("job of 3")}
    assert store.asked == [{ONE, OTHER}, {ONE, OTHER, LATER}]


def test_a_lease_that_ended_is_not_asked_for(watch: Watch, store: Asked) -> None:
    watch.end(OTHER)
    watch.see(ONE, since=99.75)

    assert store.asked == [{ONE}]


def test_a_store_that_is_away_is_asked_again(watch: Watch, store: Asked) -> None:
    store.is_away = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            watch.see(ONE, since=99.75)

    assert len(store.asked) == 2


def test_where_keys_are_protected_each_asks_for_itself(
    watch: Watch, store: Asked, clock: Seconds
) -> None:
    store.has_protected = True
    watch.see(ONE, since=99.75)
    clock.now = 100.3
    watch.see(ONE, since=100.05)
    watch.see(OTHER, since=100.05)

    assert store.asked == [{ONE, OTHER}, {ONE}, {OTHER}]


def test_who_comes_while_another_one_asks_asks_alone(watch: Watch, store: Asked) -> None:
    # Neither is answered before both have asked.
    store.barrier = Barrier(2)
    threads = [Thread(target=watch.see, args=(lease,), kwargs={"since": 99.75}) for lease in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(map(len, store.asked)) == [1, 2]
