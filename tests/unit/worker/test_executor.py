"""The executor, end to end: from the items to what is told of each."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from math import log2
from typing import Any

import pytest

from api_adapters.base import Breach, Finding, Item, Reply, Verdict, Warned
from api_adapters.errors import BadSettings, Hopeless, Refused
from tests.factories import SECOND, Clock, keys
from tests.fakes import (
    AwayStore,
    House,
    ProbingAdapter,
    ScriptedAdapter,
    lost,
    told_to_wait,
    unreached,
)
from worker.errors import LeaseLost, StoreUnavailable
from worker.job import JobId, JobState
from worker.slots import Slot, Slots
from worker.store.base import Busy, Claim, Noted, Record, Who


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=4)


def all_told(items: list[Item], word: str) -> dict[str, str]:
    return {str(item): word for item in items}


# -- what becomes of items ------------------------------------------------------


def test_what_the_answer_names_is_deleted(house: House) -> None:
    job = house.submitted(keys(10))

    house.work_off()

    assert house.told(job) == all_told(keys(10), "deleted/item")
    assert sorted(house.adapter.deleted) == sorted(map(str, keys(10)))
    assert [len(call) for call in house.adapter.calls] == [4, 4, 2]


def test_the_same_holds_on_sqlite() -> None:
    from tests.contract.stores.makers import make_sqlite

    clock = Clock()
    store = make_sqlite(clock)
    house = House(clock, store=store, max_items_per_call=4)
    house.adapter.poisoned = {"k5"}
    house.adapter.will(lost())
    job = house.submitted(keys(10))

    house.work_off()

    assert house.told(job) == all_told(keys(10), "deleted/item") | {"k5": "rejected/item"}
    store.close()


def test_what_is_not_there_is_absent(house: House) -> None:
    house.adapter.missing = {"k1"}
    job = house.submitted(keys(3))

    house.work_off()

    assert house.told(job)["k1"] == "absent/item"


def test_a_partial_answer_sends_only_the_rest_again(house: House) -> None:
    def half(items: Mapping[str, Item]) -> Reply:
        done = dict(list(items.items())[:2])
        return Reply(house.adapter.answer(done).findings, error=lost())

    house.adapter.will(half)
    job = house.submitted(keys(4))

    house.work_off()

    assert [sorted(call) for call in house.adapter.calls] == [
        ["k0", "k1", "k2", "k3"],
        ["k2", "k3"],
    ]
    assert house.told(job) == all_told(keys(4), "deleted/item")
    assert {one.mark.calls for one in house.outcomes(job)} == {1, 2}


def test_an_item_that_the_answer_leaves_out_is_a_repeat(house: House) -> None:
    house.adapter.silent = {"k2"}
    job = house.submitted(keys(4))
    house.work()
    house.adapter.silent = set()

    house.work_off()

    assert house.told(job) == all_told(keys(4), "deleted/item") | {"k2": "absent/repeat"}
    assert house.adapter.deleted["k2"] == 1


def test_an_item_that_is_always_left_out_ends_as_unknown(house: House) -> None:
    house.adapter.silent = {"k2"}
    job = house.submitted(keys(4))

    house.work_off()

    assert house.told(job)["k2"] == "unknown/none"


def test_what_is_absent_after_a_lost_answer_is_a_repeat(house: House) -> None:
    house.adapter.will(house.adapter.lose_answer)
    job = house.submitted(keys(4))

    house.work_off()

    assert house.told(job) == all_told(keys(4), "absent/repeat")


def test_what_is_there_after_a_lost_answer_is_deleted(house: House) -> None:
    house.adapter.will(lost())
    job = house.submitted(keys(4))

    house.work_off()

    assert house.told(job) == all_told(keys(4), "deleted/item")


def test_answers_that_stay_away_end_as_unknown() -> None:
    house = House(max_items_per_call=4, max_attempts=3)
    house.adapter.will(*[lost() for _ in range(9)])
    job = house.submitted(keys(4))

    house.work_off()

    assert house.told(job) == all_told(keys(4), "unknown/none")
    assert len(house.adapter.calls) == 3


def test_connections_that_are_refused_end_as_failed_with_the_last_cause() -> None:
    house = House(max_items_per_call=4, max_attempts=3)
    house.adapter.will(*[unreached() for _ in range(3)])
    job = house.submitted(keys(4))

    house.work_off()

    assert house.told(job) == all_told(keys(4), "failed/none")
    assert {(o.mark.code, o.mark.message, o.mark.calls) for o in house.outcomes(job)} == {
        ("refused", "connection refused", 3)
    }


def test_an_item_that_makes_the_vendor_fail_does_not_take_others_along() -> None:
    house = House(max_items_per_call=8, max_attempts=2)
    fails = house.adapter.failing
    fails.add("k3")
    job = house.submitted(keys(8))

    for number in range(20):
        # The target answers others meanwhile.
        house.submitted([f"other-{number}"])
        house.work()
        house.clock.advance(SECOND * 5)
    house.work_off()

    assert house.told(job) == all_told(keys(8), "deleted/item") | {"k3": "unknown/none"}


def test_a_job_that_makes_the_vendor_fail_does_not_take_others_along() -> None:
    house = House(max_items_per_call=8, max_attempts=2)
    house.adapter.failing.add("k3")
    house.submitted(["quick"])
    house.work()
    jobs = [house.submitted([key]) for key in keys(8)]

    house.work_off()

    told = {key: word for job in jobs for key, word in house.told(job).items()}
    assert told == all_told(keys(8), "deleted/item") | {"k3": "unknown/none"}


# -- refused calls ---------------------------------------------------------------


@pytest.mark.parametrize("poisoned", [{"k7"}, {"k0", "k63"}, {"k3", "k4", "k40"}])
def test_a_refused_batch_is_halved_down_to_the_poisoned_item(poisoned: set[str]) -> None:
    house = House(max_items_per_call=64)
    house.adapter.poisoned = poisoned
    job = house.submitted(keys(64))

    house.work_off()

    expected = all_told(keys(64), "deleted/item") | dict.fromkeys(poisoned, "rejected/item")
    assert house.told(job) == expected
    assert len(house.adapter.calls) <= 1 + 2 * len(poisoned) * log2(64)


def test_the_refusals_own_words_are_kept(house: House) -> None:
    house.adapter.poisoned = {"k1"}
    job = house.submitted(keys(2))

    house.work_off()

    (refused,) = [one for one in house.outcomes(job) if one.mark.verdict is Verdict.REJECTED]
    assert (refused.mark.code, refused.mark.message) == ("400", "a bad id somewhere")


def test_a_refusal_costs_no_attempt() -> None:
    house = House(max_items_per_call=64, max_attempts=1)
    house.adapter.poisoned = {"k9"}
    job = house.submitted(keys(64))

    house.work_off()

    assert house.told(job) == all_told(keys(64), "deleted/item") | {"k9": "rejected/item"}


# -- shared calls ------------------------------------------------------------------


def test_several_jobs_share_one_call_and_each_gets_its_answer(house: House) -> None:
    house.adapter.missing = {"b"}
    jobs = [house.submitted([key]) for key in "abc"]

    house.work_off()

    assert [sorted(call) for call in house.adapter.calls] == [["a", "b", "c"]]
    told = [house.told(job) for job in jobs]
    assert told == [{"a": "deleted/item"}, {"b": "absent/item"}, {"c": "deleted/item"}]


def test_a_shared_refusal_never_costs_another_job_its_items() -> None:
    house = House(max_items_per_call=16, max_attempts=1)
    house.adapter.poisoned = {"k5"}
    jobs = [house.submitted([key]) for key in keys(16)]

    house.work_off()

    told = {key: word for job in jobs for key, word in house.told(job).items()}
    assert told == all_told(keys(16), "deleted/item") | {"k5": "rejected/item"}
    assert len(house.adapter.calls) <= 1 + 2 * log2(16)


def test_a_key_that_two_jobs_ask_for_is_sent_once(house: House) -> None:
    one, other = house.submitted(["a", "b"]), house.submitted(["B", "c"])

    house.work_off()

    assert [sorted(call) for call in house.adapter.calls] == [["a", "b", "c"]]
    assert house.told(one) == {"a": "deleted/item", "b": "deleted/item"}
    assert house.told(other) == {"B": "deleted/item", "c": "deleted/item"}


def test_what_is_hopeless_for_one_job_is_not_for_the_others(house: House) -> None:
    def quota(items: Mapping[str, Item]) -> Reply:
        if "bad" in items:
            raise Hopeless("the quota is used up", may_have_run=False)
        return house.adapter.answer(items)

    house.adapter.will(*[quota] * 20)
    jobs = {key: house.submitted([key]) for key in ("a", "bad", "c")}

    house.work_off()

    assert {key: house.told(job)[key] for key, job in jobs.items()} == {
        "a": "deleted/item",
        "bad": "skipped/none",
        "c": "deleted/item",
    }
    assert house.state(jobs["bad"]) is JobState.STOPPED


def test_a_slice_waits_out_a_moment_instead_of_going_away(house: House) -> None:
    house.adapter.will(unreached())
    job = house.submitted(keys(4))

    house.work()

    assert house.told(job) == all_told(keys(4), "deleted/item")
    assert house.pauses == [0.5]


# -- being told to wait --------------------------------------------------------------


def test_being_told_to_wait_costs_no_attempt_and_rests_the_target() -> None:
    house = House(max_items_per_call=4, max_attempts=1)
    house.adapter.will(told_to_wait(30))
    jobs = [house.submitted(keys(4)), house.submitted(keys(4, prefix="other"))]
    house.work()
    assert len(house.adapter.calls) == 1

    house.clock.advance(SECOND * 28)
    house.work()
    assert len(house.adapter.calls) == 1
    house.clock.advance(SECOND * 3)
    house.work_off()

    assert house.told(jobs[0]) == all_told(keys(4), "deleted/item")
    assert len(house.adapter.calls) == 3


def test_nothing_more_of_a_claim_is_sent_once_it_is_told_to_wait(house: House) -> None:
    quicken(house)
    house.submitted(keys(40))
    house.adapter.will(told_to_wait())

    done = house.work()

    assert done.calls == 1
    assert house.store.status(house.open_jobs()[0]).batches["ready"] == 10


def quicken(house: House) -> None:
    """Let the target be known for short calls, so that a claim takes many."""
    house.submitted(["quick"])
    house.work_off()
    house.adapter.calls.clear()


def claims_of(house: House, *, call_seconds: float) -> list[int]:
    """How many calls each claim was for, with calls that take so long."""
    store = AwayStore(house.store)
    house.store = store
    house.chance = 0
    house.executor = house.make_executor()
    house.adapter.on_call = lambda: house.clock.advance(SECOND * call_seconds)
    quicken(house)
    seen: list[int] = []
    store.before("claim_many", lambda: seen.append(len(house.adapter.calls)))
    house.submitted(keys(200))

    assert house.work().calls == 50
    return [after - before for before, after in pairwise(seen)]


def test_a_claim_takes_what_a_second_is_enough_for_or_what_is_left() -> None:
    house = House(max_items_per_call=4, max_in_flight=1)

    assert claims_of(house, call_seconds=0.05) == [20, 20, 10]


def test_claims_leave_work_for_all_places_of_their_target() -> None:
    house = House(max_items_per_call=4, max_in_flight=5)

    assert claims_of(house, call_seconds=0.05)[:4] == [10, 8, 7, 5]


def test_slices_that_begin_together_do_not_end_their_claims_together() -> None:
    house = House(max_items_per_call=4, max_in_flight=1)
    house.adapter.on_call = lambda: house.clock.advance(SECOND * 0.05)
    quicken(house)
    house.submitted(keys(200))
    sizes = []
    for chance in (0.0, 0.5, 0.9):
        house.chance = chance
        house.executor = house.make_executor()
        sizes.append(house.executor.run("crm", is_over=after(1), is_ending=lambda: False).calls)

    assert sizes == [20, 13, 7]


def test_a_claim_of_short_calls_takes_as_many_as_it_may(house: House) -> None:
    assert claims_of(house, call_seconds=0.002) == [50]


def test_small_jobs_that_come_together_share_a_call() -> None:
    house = House(max_items_per_call=100)
    jobs = [house.submitted([f"k{number}"]) for number in range(10)]

    done = house.work()

    assert [len(call) for call in house.adapter.calls] == [10]
    assert [house.told(job) for job in jobs] == [{f"k{n}": "deleted/item"} for n in range(10)]
    assert done.decided.total() == 10


def test_nobody_is_called_for_while_small_jobs_gather() -> None:
    house = House(max_items_per_call=100)
    for name in ("a", "b"):
        house.submitted([name])
    assert house.store.may_ring("crm")
    rung: list[bool] = []

    def wait(seconds: float) -> None:
        rung.append(house.store.may_ring("crm"))
        house.sleep(seconds)

    house.executor = house.make_executor(sleep=wait)
    house.work()

    assert rung == [False]
    assert len(house.adapter.calls) == 1


def test_one_waits_for_all_while_small_jobs_gather() -> None:
    house = House(max_items_per_call=100)
    for name in ("a", "b"):
        house.submitted([name])
    others: list[int] = []

    def wait(seconds: float) -> None:
        if len(others) < 3:
            others.append(house.work().calls)
        house.sleep(seconds)

    house.executor = house.make_executor(sleep=wait)
    done = house.work()

    assert others == [0]
    assert done.calls == 1
    assert [len(call) for call in house.adapter.calls] == [2]


def test_a_bell_that_was_left_to_the_one_who_waits_is_answered_by_him() -> None:
    house = House(max_items_per_call=100)
    quicken(house)
    house.submitted(["a", "b"])
    rung: list[bool] = []

    def wait(seconds: float) -> None:
        if not rung:
            # His own was answered before: this one is for what has come since.
            rung.append(house.store.may_ring("crm"))
            assert house.work().calls == 0
            rung.append(house.store.may_ring("crm"))
        house.sleep(seconds)

    def arrive() -> None:
        house.adapter.on_call = lambda: None
        for name in ("c", "d"):
            house.submitted([name])

    house.adapter.on_call = arrive
    house.executor = house.make_executor(sleep=wait)
    house.executor.run("crm", is_over=lambda: len(house.adapter.calls) > 1)
    house.submitted(["e"])

    assert rung == [True, False]
    assert house.store.may_ring("crm")


def test_a_small_job_that_is_alone_does_not_wait() -> None:
    house = House(max_items_per_call=100)
    slept: list[float] = []
    house.executor = house.make_executor(sleep=slept.append)
    house.submitted(["a"])

    assert house.work().calls == 1
    assert slept == []


def test_what_a_claim_has_too_much_of_is_left_to_others() -> None:
    house = House(max_items_per_call=4)
    quicken(house)
    job = house.submitted(keys(400))
    house.adapter.on_call = lambda: house.clock.advance(SECOND * 0.1)

    # Known for a millisecond, it takes a hundred times as long.
    done = house.executor.run("crm", is_over=after(1), is_ending=lambda: False)

    assert done.calls == 3
    assert house.store.status(job).batches["leased"] == 0
    assert house.bells.rung == ["crm"]


# -- whether a slice is of use ----------------------------------------------------------


class Enough:
    """A process in which a slice is of use for so many claims."""

    def __init__(self, claims: int) -> None:
        self.claims = claims
        self.told: list[tuple[int, float, float]] = []

    def goes_on(self, *, calls: int, lasting: float, working: float, beside: int) -> bool:
        self.told.append((calls, lasting, working))
        return len(self.told) < self.claims


def test_a_slice_that_is_of_no_more_use_leaves_the_rest_to_others(house: House) -> None:
    house.submitted(keys(40))

    done = house.executor.run("crm", is_over=lambda: False, place=Enough(1))

    assert done.calls == 1
    # Those that stay ring.
    assert house.bells.rung == ["crm"]


def test_a_slice_tells_how_long_it_called_and_worked(house: House) -> None:
    moments = iter(range(100))
    house.executor = house.make_executor(processor=lambda: next(moments) / 1000)
    house.adapter.on_call = lambda: house.clock.advance(SECOND * 3)
    house.submitted(keys(4))
    place = Enough(9)

    house.executor.run("crm", is_over=lambda: False, place=place)

    assert place.told == [(1, pytest.approx(3), pytest.approx(0.001))]


def test_what_was_claimed_is_finished_though_time_is_over(house: House) -> None:
    house.adapter.on_call = lambda: house.clock.advance(SECOND * 0.05)
    quicken(house)
    house.submitted(keys(40))

    done = house.executor.run("crm", is_over=after(1), is_ending=lambda: False)

    assert done.calls == 5


# -- hopeless ------------------------------------------------------------------------


def test_a_hopeless_call_stops_its_job_and_skips_what_was_never_sent(house: House) -> None:
    house.adapter.will(Hopeless("no permission", may_have_run=False))
    job = house.submitted(keys(10))

    house.work_off()

    assert house.state(job) is JobState.STOPPED
    assert house.store.job(job).reason == "no permission"
    assert house.told(job) == all_told(keys(10), "skipped/none")
    assert len(house.adapter.calls) == 1


@pytest.mark.parametrize("heeds", ["stop", "close_target"])
def test_what_a_hopeless_call_tells_is_heeded_before_anybody_records_it(
    house: House, heeds: str
) -> None:
    store = AwayStore(house.store)
    house.store = store
    house.executor = house.make_executor()
    recorder = house.executor._deleter._recorder
    house.adapter.will(Hopeless("no", may_have_run=False, closes_target=heeds == "close_target"))
    job = house.submitted(["a"])
    ready: list[int] = []

    def another_records() -> None:
        house.clock.advance(SECOND)
        recorder._record_for("crm", [])
        ready.append(house.store.status(job).batches["ready"])

    store.before(heeds, another_records)
    house.executor.run("crm", is_over=after(1))

    assert ready == [0]


def test_other_calls_of_the_same_claim_are_not_sent_for_a_stopped_job(house: House) -> None:
    quicken(house)
    house.adapter.will(Hopeless("no permission"))
    job = house.submitted(keys(40))

    house.work_off()

    assert len(house.adapter.calls) == 1
    told = house.told(job)
    assert [told[f"k{n}"] for n in range(4)] == ["unknown/none"] * 4
    assert {told[f"k{n}"] for n in range(4, 40)} == {"skipped/none"}


def test_a_bell_that_another_claim_has_answered_is_not_answered_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.submitted(keys(4))
    claim_many = house.store.claim_many
    answering: list[bool] = []

    def first_none(target: str, **given: Any) -> Sequence[Claim | Busy]:
        answering.append(given["answers_bell"])
        if len(answering) == 1:
            return [Busy(timedelta(), is_answered=True)]
        return claim_many(target, **given)

    monkeypatch.setattr(house.store, "claim_many", first_none)
    house.work_off()

    assert answering[:2] == [True, False]


def test_a_job_that_is_stopped_stays_so_whatever_another_thread_saw_before(house: House) -> None:
    house.adapter.on_call = lambda: house.clock.advance(SECOND * 0.4)
    quicken(house)
    house.chance = 0
    job = house.submitted(keys(100))
    takes = iter([0.3, 0.0])
    is_over = iter([False, True])

    def others_work_meanwhile() -> None:
        house.adapter.on_call = lambda: house.clock.advance(SECOND * next(takes))
        house.executor.run("crm", is_over=lambda: next(is_over), is_ending=lambda: False)
        house.clock.advance(SECOND * 0.1)

    house.adapter.on_call = others_work_meanwhile
    house.adapter.will(*[house.adapter.answer] * 2, Hopeless("no permission"))
    house.work_off()

    assert len(house.adapter.calls) == 3
    assert house.state(job) is JobState.STOPPED


def test_a_wrong_login_closes_the_target_and_its_jobs_wait(house: House) -> None:
    quicken(house)
    house.adapter.will(
        Hopeless("the token was refused", may_have_run=False, closes_target=True, code="401")
    )
    job = house.submitted(keys(40))

    house.work()

    assert len(house.adapter.calls) == 1
    assert house.state(job) is JobState.RUNNING
    assert house.store.target_note("crm").closed_reason == "the token was refused"
    house.clock.advance(SECOND * 31)
    house.work_off()
    assert house.told(job) == all_told(keys(40), "deleted/item")
    assert house.store.target_note("crm").closed_reason is None


def test_a_target_that_stays_closed_stops_its_jobs_in_the_end(house: House) -> None:
    wrong = Hopeless("the token was refused", may_have_run=False, closes_target=True)
    house.adapter.will(*[wrong] * 100)
    job = house.submitted(keys(10))
    began = house.clock.moment

    house.work_off()

    assert house.state(job) is JobState.STOPPED
    assert house.told(job) == all_told(keys(10), "skipped/none")
    assert house.clock.moment - began >= timedelta(minutes=10)


def test_one_that_waits_for_nothing_stops_at_once(house: House) -> None:
    house.executor = house.make_executor(hopeless_after=timedelta())
    house.adapter.will(Hopeless("the token was refused", may_have_run=False, closes_target=True))
    job = house.submitted(keys(10))

    house.work_off()

    assert house.state(job) is JobState.STOPPED


# -- looking after -----------------------------------------------------------------------


def test_after_a_lost_answer_one_looks_where_one_can() -> None:
    house = House(adapter=ProbingAdapter(), max_items_per_call=8)
    house.adapter.will(house.adapter.lose_answer)
    job = house.submitted(keys(8))

    house.work_off()

    assert house.told(job) == all_told(keys(8), "absent/repeat")
    assert [len(look) for look in house.adapter.looks] == [3, 3, 2]
    assert len(house.adapter.calls) == 1


def test_what_is_still_there_is_sent_again() -> None:
    house = House(adapter=ProbingAdapter())
    house.adapter.will(lost())
    job = house.submitted(keys(2))

    house.work_off()

    assert house.told(job) == all_told(keys(2), "deleted/item")


def test_what_is_still_there_when_attempts_are_used_up_has_failed() -> None:
    house = House(adapter=ProbingAdapter(), max_attempts=2)
    house.adapter.failing = {"k0"}
    job = house.submitted(keys(1))

    house.work_off()

    assert house.told(job) == {"k0": "failed/probe"}


def test_what_an_answer_left_out_and_a_look_does_not_show_is_absent() -> None:
    house = House(adapter=ProbingAdapter())
    house.adapter.silent = {"k0"}
    job = house.submitted(keys(2))

    house.work_off()

    assert house.told(job) == {"k0": "absent/probe", "k1": "deleted/item"}


def test_after_a_hopeless_answer_that_may_have_run_somebody_looks() -> None:
    house = House(adapter=ProbingAdapter())
    house.adapter.missing = {"k1"}
    house.adapter.will(Hopeless("the whole call is forbidden", code="403"))
    job = house.submitted(keys(2))

    house.work_off()

    assert house.told(job) == {"k0": "failed/probe", "k1": "absent/repeat"}
    assert house.state(job) is JobState.STOPPED


def test_nobody_looks_after_a_call_that_cannot_have_run() -> None:
    house = House(adapter=ProbingAdapter())
    house.adapter.will(unreached())
    house.submitted(keys(2))

    house.work_off()

    assert house.adapter.looks == []


@pytest.mark.parametrize("fault", [lost(), ValueError("k0")])
def test_a_look_that_breaks_does_not_cost_the_answer(fault: Exception) -> None:
    class Blind(ProbingAdapter):
        def probe(self, *_: Any, **__: Any) -> Any:
            raise fault

    house = House(adapter=Blind())
    house.adapter.silent = {"k0"}
    job = house.submitted(keys(2))

    house.work()

    assert house.told(job) == {"k1": "deleted/item"}


# -- adapters that break -------------------------------------------------------------------


def test_an_adapter_that_breaks_is_a_passing_fault(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.adapter.will(KeyError("k0-is-somebody"))
    job = house.submitted(["k0-is-somebody"])

    house.work()
    assert "k0-is-somebody" not in caplog.text
    house.work_off()

    assert house.told(job) == {"k0-is-somebody": "deleted/item"}


def test_an_adapter_that_answers_with_nothing_is_a_passing_fault(house: House) -> None:
    nothing: Any = None
    house.adapter.will(lambda _: nothing)
    job = house.submitted(["a"])

    house.work_off()

    assert house.told(job) == {"a": "deleted/item"}


def test_an_item_that_the_adapter_takes_no_longer_is_rejected(house: House) -> None:
    job = house.submitted(keys(3))
    house.adapter.unkeyable = {"k1"}

    house.work_off()

    assert house.told(job) == all_told(keys(3), "deleted/item") | {"k1": "rejected/none"}
    assert ["k0", "k2"] in house.adapter.calls


def test_a_batch_of_which_nothing_can_be_sent_is_no_answer_of_the_target(house: House) -> None:
    job = house.submitted(["a"])
    house.adapter.unkeyable = {"a"}
    house.store.close_target("crm", reason="login", rest=timedelta())

    done = house.work()

    assert (done.calls, house.adapter.calls) == (0, [])
    assert house.told(job) == {"a": "rejected/none"}
    assert house.store.target_note("crm").closed_reason == "login"


def test_a_key_that_breaks_never_breaks_the_worker(house: House) -> None:
    class Broken(ScriptedAdapter):
        def key(self, item: Item) -> str:
            raise ZeroDivisionError

    job = house.submitted(["a"])
    house.adapter = Broken()

    house.work_off()

    assert house.told(job) == {"a": "rejected/none"}


def test_a_target_that_cannot_be_built_stops_its_jobs(house: House) -> None:
    def cannot(_: str) -> ScriptedAdapter:
        raise BadSettings("no such file")

    house.executor = house.make_executor(adapters=cannot)
    job = house.submitted(keys(3))

    house.work_off()

    assert house.state(job) is JobState.STOPPED
    assert house.store.job(job).reason == "target 'crm': no such file"
    assert house.told(job) == all_told(keys(3), "skipped/none")


def test_contract_violations_are_noted_with_their_job(house: House) -> None:
    def warned(items: Mapping[str, Item]) -> Reply:
        found = {key: Finding(Verdict.DELETED) for key in items}
        return Reply(found, warnings=(Warned(Breach.STRANGER, "one item was not asked for"),))

    seen: list[Any] = []
    store = AwayStore(house.store)
    record = house.store.record_many
    house.store = store

    def spy(records: Sequence[Record]) -> Sequence[Noted | LeaseLost]:
        seen.extend(breach for one in records for breach in one.breaches)
        return record(records)

    store.record_many = spy
    house.executor = house.make_executor()
    house.adapter.will(warned)
    job = house.submitted(["a"])

    house.work()

    assert [(one.job, one.warned.breach) for one in seen] == [(job, Breach.STRANGER)]


# -- leases, wishes and time ---------------------------------------------------------------


def test_a_worker_that_lost_its_lease_records_nothing(house: House) -> None:
    def be_rescued() -> None:
        house.clock.advance(timedelta(minutes=5))
        house.rescuer.rescue()

    house.adapter.on_call = be_rescued
    job = house.submitted(["a"])
    house.executor.run("crm", is_over=after(1))
    assert house.told(job) == {}

    house.adapter.on_call = lambda: None
    house.work_off()

    assert house.told(job) == {"a": "absent/repeat"}


def after(rounds: int) -> Callable[[], bool]:
    """Over after so many looks at the time."""
    left = [rounds]

    def is_over() -> bool:
        left[0] -= 1
        return left[0] < 0

    return is_over


@pytest.mark.parametrize(
    ("wish", "state"), [("pause", JobState.PAUSED), ("cancel", JobState.CANCELLED)]
)
def test_a_wish_between_two_calls_gives_the_rest_back_unsent(
    house: House, wish: str, state: JobState
) -> None:
    quicken(house)
    job = house.submitted(keys(20))

    def wished() -> None:
        house.clock.advance(SECOND)
        if len(house.adapter.calls) == 2:
            getattr(house.store, wish)(job, Who())

    house.adapter.on_call = wished

    house.work()
    house.settler.settle(job)

    assert len(house.adapter.calls) == 2
    assert house.state(job) is state
    deleted = [key for key, word in house.told(job).items() if word == "deleted/item"]
    assert len(deleted) == 8
    if wish == "pause":
        house.store.resume(job, Who())
        house.work_off()
        assert house.told(job) == all_told(keys(20), "deleted/item")


def test_a_call_is_not_sent_when_the_lease_would_not_outlast_it(house: House) -> None:
    store = AwayStore(house.store)
    house.store = store
    house.executor = house.make_executor()
    quicken(house)
    job = house.submitted(keys(20))
    house.adapter.on_call = lambda: house.clock.advance(SECOND)
    # The store is so slow that the lease is nearly over when it answers.
    store.before("renew", lambda: house.clock.advance(SECOND * 25))

    house.executor.run("crm", is_over=after(1))

    assert len(house.adapter.calls) == 1
    assert house.store.status(job).batches == {"ready": 4, "leased": 0, "done": 1, "split": 0}
    assert all(one.mark.verdict is Verdict.DELETED for one in house.outcomes(job))


def test_a_claim_that_took_too_long_is_renewed_first(house: House) -> None:
    store = AwayStore(house.store)
    house.store = store
    house.executor = house.make_executor()
    store.before("claim_many", lambda: house.clock.advance(SECOND * 20))
    house.submitted(["a"])

    house.executor.run("crm", is_over=after(1))

    assert store.asked["renew"] == 1
    assert len(house.adapter.calls) == 1


def test_a_slice_that_is_over_claims_nothing(house: House) -> None:
    job = house.submitted(["a"])

    done = house.executor.run("crm", is_over=lambda: True)

    assert (done.calls, house.adapter.calls) == (0, [])
    assert house.store.status(job).batches["ready"] == 1


def test_a_slice_that_is_over_gives_back_what_it_has_not_sent(house: House) -> None:
    quicken(house)
    job = house.submitted(keys(20))

    # Looked at before the claim, and before every call but the first.
    house.executor.run("crm", is_over=after(2))

    assert len(house.adapter.calls) == 2
    status = house.store.status(job)
    assert (status.batches["ready"], status.batches["leased"]) == (3, 0)
    house.work_off()
    assert house.told(job) == all_told(keys(20), "deleted/item")


def test_a_slice_tells_what_it_decided(house: House) -> None:
    house.adapter.silent = {"k1"}
    job = house.submitted(keys(4))
    first = house.work()
    house.adapter.silent = set()
    house.clock.advance(SECOND * 30)

    second = house.work()

    assert (first.decided[job], second.decided[job]) == (3, 1)
    assert job in second.touched


def test_a_target_that_is_not_configured_is_left_alone(house: House) -> None:
    assert house.executor.run("nobody", is_over=lambda: False).calls == 0


def test_a_job_of_another_configuration_is_left_alone(house: House) -> None:
    class Elsewhere(ScriptedAdapter):
        identity = ("max_items",)

    job = house.submitted(["a"])
    house.adapter = Elsewhere()
    house.targets["crm"] = house.target_of("crm", max_items=5)

    assert house.work().calls == 0
    assert house.state(job) is JobState.RUNNING


# -- bells --------------------------------------------------------------------------------------


def test_a_claim_that_leaves_work_and_a_place_rings(house: House) -> None:
    house.submitted(keys(8))
    assert house.store.may_ring("crm")

    house.executor.run("crm", is_over=after(1))

    assert house.bells.rung == ["crm"]


def test_jobs_that_end_within_a_long_slice_are_closed_meanwhile(house: House) -> None:
    jobs = [house.submitted(keys(4)) for _ in range(3)]
    house.adapter.on_call = lambda: house.clock.advance(SECOND * 0.6)
    closed: list[set[JobId]] = []

    done = house.executor.run(
        "crm", is_over=lambda: False, close=lambda ended: closed.append(set(ended))
    )

    assert done.calls == 3
    assert closed == [set(jobs[:2])]
    assert done.touched == {jobs[2]}


def test_a_claim_of_long_calls_calls_for_others_of_its_process(house: House) -> None:
    house.adapter.on_call = lambda: house.clock.advance(SECOND)
    house.submitted(["slow"])
    house.work_off()
    house.submitted(keys(8))
    assert house.store.may_ring("crm")
    called: list[int] = []

    house.executor.run("crm", is_over=after(1), crew=called.append)

    # Of three free places half, one of them by message.
    assert called == [1]
    assert house.bells.rung == ["crm"]


def test_others_are_called_for_once_a_slot_can_be_found_for_them(house: House) -> None:
    house.adapter.on_call = lambda: house.clock.advance(SECOND)
    house.submitted(["slow"])
    house.work_off()
    house.submitted(keys(8))
    slots = Slots(8)
    with slots.work("crm") as place:
        assert isinstance(place, Slot)
        # So far it was seen to wait for nothing.
        slots.note(place, calls=1, lasting=0.0, working=0.1)
        found: list[bool] = []

        def crew(_: int) -> None:
            with slots.work("crm") as other:
                found.append(isinstance(other, Slot))

        house.executor.run("crm", is_over=after(1), place=place, crew=crew)

    assert found == [True]


def test_who_was_called_for_otherwise_leaves_the_bell_unanswered(house: House) -> None:
    house.submitted(keys(8))
    assert house.store.may_ring("crm")

    house.executor.run("crm", is_over=after(1), by_bell=False)

    assert house.bells.rung == []
    assert not house.store.may_ring("crm")


def test_a_claim_that_leaves_no_place_does_not_ring() -> None:
    house = House(max_items_per_call=4, max_in_flight=1)
    house.submitted(keys(8))
    during: list[int] = []
    house.adapter.on_call = lambda: during.append(len(house.bells.rung))

    house.work()

    assert during == [0, 0]


def test_a_slice_that_is_over_rings_for_what_it_leaves() -> None:
    house = House(max_items_per_call=4, max_in_flight=1)
    house.submitted(keys(8))

    house.executor.run("crm", is_over=after(1))

    assert house.bells.rung == ["crm"]


def test_a_slice_that_leaves_nothing_rings_nobody(house: House) -> None:
    house.submitted(keys(4))

    house.work()

    assert house.bells.rung == []


def test_at_most_one_bell_is_on_its_way(house: House) -> None:
    house.submitted(keys(40))

    for _ in range(3):
        # Nobody hears the bell, so nobody rings again.
        house.executor.run("crm", is_over=lambda: True)

    assert len(house.bells.rung) <= 1


# -- the store is away -----------------------------------------------------------------------------


@pytest.fixture
def away(house: House) -> AwayStore:
    """The house's store, which may be away."""
    store = AwayStore(house.store)
    house.store = store
    house.executor = house.make_executor()
    return store


def test_a_record_is_repeated_until_the_store_is_back(house: House, away: AwayStore) -> None:
    job = house.submitted(keys(4))
    away.be_away("record_many", 8)

    house.work()

    assert house.told(job) == all_told(keys(4), "deleted/item")
    assert house.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_record_is_repeated_until_its_fence_is_refused(house: House, away: AwayStore) -> None:
    job = house.submitted(keys(4))
    away.be_away("record_many", 30)
    away.before("record_many", house.rescuer.rescue)

    house.executor.run("crm", is_over=after(1))

    assert away.asked["record_many"] == 31
    house.work_off()
    assert house.told(job) == all_told(keys(4), "absent/repeat")


def test_a_worker_that_is_to_end_gives_up_in_time(house: House, away: AwayStore) -> None:
    house.submitted(keys(4))
    away.be_away("record_many", 1_000)
    house.is_ending = True

    with pytest.raises(StoreUnavailable):
        house.work()

    assert sum(house.pauses) < 30


def test_answers_survive_a_store_that_is_away_between_two_calls(
    house: House, away: AwayStore
) -> None:
    quicken(house)
    job = house.submitted(keys(20))

    def slow_call() -> None:
        house.clock.advance(SECOND)
        if len(house.adapter.calls) == 1:
            away.be_away("renew", 3)
            away.be_away("record_many", 3)

    house.adapter.on_call = slow_call

    house.work_off()

    assert house.told(job) == all_told(keys(20), "deleted/item")
    assert set(house.adapter.deleted.values()) == {1}


def test_a_probe_that_cannot_renew_keeps_the_answer(away: AwayStore) -> None:
    house = House(adapter=ProbingAdapter(), max_items_per_call=4)
    away = AwayStore(house.store)
    house.store = away
    house.executor = house.make_executor()
    house.adapter.silent = {"k0"}
    job = house.submitted(keys(4))
    away.be_away("renew", 1)

    house.executor.run("crm", is_over=lambda: bool(house.adapter.calls))

    assert house.told(job) == all_told(keys(4)[1:], "deleted/item")


def test_a_stop_is_repeated_until_the_store_is_back(house: House, away: AwayStore) -> None:
    house.adapter.will(Hopeless("no permission", may_have_run=False))
    job = house.submitted(keys(4))
    away.be_away("stop", 2)

    house.work_off()

    assert house.state(job) is JobState.STOPPED


def test_a_claim_that_the_store_does_not_answer_costs_nothing(
    house: House, away: AwayStore
) -> None:
    job = house.submitted(keys(4))
    away.be_away("claim_many", 1)

    with pytest.raises(StoreUnavailable):
        house.work()
    house.work_off()

    assert house.told(job) == all_told(keys(4), "deleted/item")


def test_a_refused_call_leaves_no_doubt_where_it_proves_that_nothing_was_done(
    house: House,
) -> None:
    house.adapter.will(Refused("a bad id", may_have_run=False))
    house.adapter.missing = {"k0"}
    job = house.submitted(keys(2))

    house.work_off()

    assert house.told(job) == {"k0": "absent/item", "k1": "deleted/item"}
