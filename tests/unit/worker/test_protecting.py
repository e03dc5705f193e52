"""Brakes around a whole house: protected keys, globs, failures, and what was approved."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from api_adapters.base import Item
from tests.factories import MINUTE, SECOND, keys, some_id
from tests.fakes import AwayStore, House, ProbingAdapter, ScriptedAdapter, lost
from worker import planner as planning
from worker.errors import RefusedRequest
from worker.explaining import explain
from worker.item import digest_of_key, to_json
from worker.job import JobId, JobState
from worker.requests import Submit
from worker.store.base import Unprotected, Who

ADA = Who(os_user="ada", by="Ada", reason="the boss's")


class FilteringAdapter(ScriptedAdapter):
    """An item `{"like": ...}` says only in the call which one it means."""

    def key(self, item: Item) -> str:
        return super().key({"id": item["like"]} if isinstance(item, dict) else item)

    def is_key_known(self, item: Item) -> bool:
        return not isinstance(item, dict)


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=4)


def protect(house: House, *names: str, until: timedelta | None = None) -> int:
    """Protect keys; how many may be out."""
    texts = {digest_of_key("crm", name): to_json(name) for name in names}
    return house.store.protect("crm", texts, ADA, until=until).out


def unprotect(house: House, *names: str) -> Unprotected:
    return house.store.unprotect("crm", [digest_of_key("crm", name) for name in names], ADA)


def sent(house: House) -> set[str]:
    return {key for call in house.adapter.calls for key in call}


# -- protected keys -------------------------------------------------------------


@pytest.mark.parametrize("when", ["before it came", "before it was planned", "after it was cut"])
def test_a_protected_key_is_never_sent(house: House, when: str) -> None:
    if when == "before it came":
        protect(house, "k1")
    job = house.landed(keys(6))
    if when == "before it was planned":
        protect(house, "k1")
    house.planner.plan(job)
    if when == "after it was cut":
        protect(house, "k1")

    house.work_off()

    assert house.told(job) == dict.fromkeys(map(str, keys(6)), "deleted/item") | {
        "k1": "denied/none"
    }
    assert "k1" not in sent(house)
    mark = house.outcomes(job)[1].mark
    assert (mark.code, mark.calls) == ("protected", 0)


def test_a_key_is_protected_however_it_is_spelled(house: House) -> None:
    protect(house, "7")
    job = house.submitted([{"id": "7"}, 7, "K1"])

    house.work_off()

    assert list(house.told(job).values()) == ["denied/none", "deleted/item"]
    assert sent(house) == {"k1"}


def test_a_job_of_protected_keys_makes_no_call(house: House) -> None:
    protect(house, *map(str, keys(6)))
    job = house.submitted(keys(6))

    house.work_off()

    assert set(house.told(job).values()) == {"denied/none"}
    assert house.adapter.calls == []


def test_a_key_of_another_target_is_not_protected(house: House) -> None:
    house.targets["erp"] = house.target_of("erp")
    protect(house, "k1")
    job = house.submitted(keys(2), target="erp")

    house.work_off(target="erp")

    assert set(house.told(job).values()) == {"deleted/item"}


def test_a_key_protected_between_claim_and_call_is_not_sent(house: House) -> None:
    house.submitted(["first"])
    house.work_off()  # So quickly that the next claim takes several calls.
    jobs = [house.submitted([f"{name}{n}" for n in range(4)]) for name in "ab"]
    told: list[int] = []

    def meanwhile() -> None:
        if not told:
            told.append(protect(house, "b1", "a1", "elsewhere"))
            house.clock.advance(SECOND)

    house.adapter.on_call = meanwhile

    house.work_off()

    # One of them was in the call that was out, and may be gone.
    assert told == [2]
    assert house.told(jobs[1])["b1"] == "denied/none"
    assert house.told(jobs[0])["a1"] == "deleted/item"
    assert "b1" not in sent(house)


def test_a_look_while_a_call_is_out_does_not_deny_what_was_sent() -> None:
    house = House(adapter=ProbingAdapter(), max_items_per_call=4)
    job = house.submitted(["a", "b"])
    house.adapter.silent = {"a"}
    house.adapter.on_call = lambda: protect(house, "a", "b")

    house.work_off()

    assert house.told(job) == {"a": "absent/probe", "b": "deleted/item"}


def test_a_key_that_was_sent_and_is_protected_then_is_unknown(house: House) -> None:
    house.adapter.will(lost())
    house.adapter.on_call = lambda: protect(house, "a")
    job = house.submitted(["a", "b"])

    house.work_off()

    assert house.told(job) == {"a": "unknown/none", "b": "deleted/item"}
    assert (house.outcomes(job)[0].mark.code, house.outcomes(job)[0].mark.calls) == ("protected", 1)


def test_a_refused_batch_is_halved_without_what_is_protected(house: House) -> None:
    protect(house, "c")
    house.adapter.poisoned = {"d"}
    job = house.submitted(["c", "d", "e"])

    house.work_off()

    assert house.told(job) == {"c": "denied/none", "d": "rejected/item", "e": "deleted/item"}


def test_a_protection_ends_by_the_stores_clock(house: House) -> None:
    protect(house, "k0", until=MINUTE)
    first = house.submitted(keys(1))
    house.work_off()
    house.clock.advance(MINUTE)
    second = house.submitted(keys(1))

    house.work_off()

    assert house.told(first) == {"k0": "denied/none"}
    assert house.told(second) == {"k0": "deleted/item"}


def test_what_was_kept_back_is_tried_again_once_it_is_no_longer_protected(house: House) -> None:
    protect(house, "k1", "k2")
    job = house.submitted(keys(4))
    house.work_off()

    done = unprotect(house, "k1", "nobody")
    child = house.submitter.retry(job)
    house.planner.plan(child.id)
    house.work_off()

    assert (done.removed, done.kept) == (1, {job: 1})
    assert house.told(child.id) == {"k1": "deleted/item", "k2": "denied/none"}
    assert unprotect(house, "k2").kept == {child.id: 1}


def test_an_item_whose_key_nobody_knows_is_kept_where_keys_are_protected() -> None:
    house = House(adapter=FilteringAdapter())
    before = house.submitted([{"like": "a"}])
    house.work_off()
    protect(house, "boss")
    after = house.submitted([{"like": "b"}, "c"])

    house.work_off()

    assert list(house.told(before).values()) == ["deleted/item"]
    assert list(house.told(after).values()) == ["denied/none", "deleted/item"]
    assert house.desk.history("crm", {"like": "b"})["protected"] is True
    unprotect(house, "boss")
    assert house.desk.history("crm", {"like": "b"})["protected"] is False


def test_an_item_tells_that_it_is_protected_why_and_until_when(house: House) -> None:
    protect(house, "k0", until=MINUTE)

    body = house.desk.history("crm", "K0")

    assert body["protected"] is True
    assert body["protection"] == {
        "reason": "the boss's",
        "until": "2026-01-02T03:05:05.000Z",
        "os_user": "ada",
        "by": "Ada",
        "created_at": "2026-01-02T03:04:05.000Z",
    }
    assert house.desk.history("crm", "k1")["protection"] is None


# -- globs ----------------------------------------------------------------------


def test_what_a_glob_matches_lands_with_its_outcome() -> None:
    house = House(protect=["admin-*"])

    job = house.landed(["admin-1", "user-1", "Admin-2"])

    house.planner.plan(job)
    house.work_off()
    assert list(house.told(job).values()) == ["denied/none", "deleted/item", "denied/none"]
    assert [one.mark.code for one in house.outcomes(job)] == ["protected", None, "protected"]
    assert sent(house) == {"user-1"}


@pytest.mark.parametrize("way", ["chunks", "a query"])
def test_a_glob_holds_at_every_door(way: str) -> None:
    from tests.fakes import FindingAdapter

    adapter = FindingAdapter()
    adapter.pages = [["admin-1", "user-1", "ADMIN-1"]]
    house = House(adapter=adapter, protect=["admin-*"], allow_query=True)
    job = some_id()
    if way == "chunks":
        house.desk.open({"job": job, "target": "crm", "chunk_items": 2})
        house.desk.append({"job": job, "chunk": 1, "items": ["ADMIN-1"]})
        house.desk.append({"job": job, "chunk": 0, "items": ["admin-1", "user-1"]})
        house.desk.seal({"job": job, "chunks": 2})
    else:
        house.submitter.submit(Submit(job=job, target="crm", query={"keyword": "old"}))

    house.planner.plan(job)
    house.work_off()

    assert house.told(job) == {"admin-1": "denied/none", "user-1": "deleted/item"}
    assert house.store.job(job).duplicates == 1


def test_a_glob_holds_for_items_that_landed_before_it() -> None:
    house = House()
    job = house.submitted(["admin-1", "user-1"])
    house.targets["crm"] = house.target_of("crm", protect=["admin-*"])

    house.work_off()

    assert house.told(job) == {"admin-1": "denied/none", "user-1": "deleted/item"}
    assert house.desk.history("crm", "admin-9")["protection"]["reason"].endswith(": admin-*")


def test_what_a_glob_kept_is_tried_again_once_it_is_gone() -> None:
    house = House(protect=["admin-*"])
    job = house.submitted(["admin-1", "user-1"])
    house.work_off()
    house.targets["crm"] = house.target_of("crm")

    child = house.submitter.retry(job).id
    house.planner.plan(child)
    house.work_off()

    assert house.told(child) == {"admin-1": "deleted/item"}


# -- failures -------------------------------------------------------------------


def failing(house: House, count: int) -> JobId:
    job = house.submitted(keys(count))
    house.adapter.poisoned = set(map(str, keys(count)))
    return job


def test_a_job_that_mostly_fails_stops_itself_and_says_the_counts() -> None:
    house = House(max_items_per_call=1, failures_after=6)
    job = failing(house, 60)
    house.adapter.on_call = lambda: house.clock.advance(SECOND)

    house.work_off()

    status = house.store.status(job)
    assert status.job.state is JobState.STOPPED
    assert status.job.reason is not None
    assert status.job.reason.startswith("of 6 decided items 6 are not gone (6 rejected), and max_")
    assert set(house.told(job).values()) == {"rejected/item", "skipped/none"}
    assert len(house.adapter.calls) == 6
    why = explain(
        status,
        house.store.job_note(job),
        beside=house.store.target_note("crm"),
        target=house.targets["crm"],
    )
    assert status.job.reason in why.sentence


def test_a_job_that_stops_itself_leaves_the_others_alone() -> None:
    house = House(max_items_per_call=1, failures_after=6)
    bad = failing(house, 20)
    good = house.submitted(keys(20, prefix="good"))
    house.adapter.on_call = lambda: house.clock.advance(SECOND)

    house.work_off()

    assert (house.state(bad), house.state(good)) == (JobState.STOPPED, JobState.COMPLETED)


@pytest.mark.parametrize("settings", [{"failures_after": 20}, {"max_failures": 1.0}])
def test_a_small_job_or_a_tolerant_target_goes_on(settings: dict[str, float]) -> None:
    house = House(max_items_per_call=1, **({"failures_after": 6} | settings))
    job = failing(house, 20)
    house.adapter.on_call = lambda: house.clock.advance(SECOND)

    house.work_off()

    assert house.state(job) is JobState.COMPLETED
    assert set(house.told(job).values()) == {"rejected/item"}


# -- approval -------------------------------------------------------------------


@pytest.fixture
def held() -> tuple[House, JobId]:
    house = House(max_items=3)
    return house, house.submitted(keys(5))


def test_approval_is_bound_to_the_items_that_were_frozen(held: tuple[House, JobId]) -> None:
    house, job = held
    digest = house.store.job(job).items_digest
    assert digest is not None

    house.store.approve(job, ADA, digest=digest)
    house.planner.plan(job)
    house.work_off()

    approved = next(e for e in house.store.events(job, limit=9) if e.kind == "job.approved")
    assert house.state(job) is JobState.COMPLETED
    assert (approved.by, approved.os_user) == ("Ada", "ada")
    assert approved.detail == {"reason": "the boss's", "digest": digest, "items": 5}


def test_another_digest_is_not_approved(held: tuple[House, JobId]) -> None:
    house, job = held

    with pytest.raises(RefusedRequest) as refused:
        house.store.approve(job, ADA, digest="0" * 64)

    assert refused.value.code == "wrong_state"
    assert house.state(job) is JobState.AWAITING_APPROVAL


def test_items_that_are_not_those_that_were_approved_stop_the_job(
    held: tuple[House, JobId],
) -> None:
    house, job = held
    store = AwayStore(house.store)
    house.store.approve(job, ADA)
    row = house.store._rows.jobs[job]  # type: ignore[attr-defined]
    row.items[2] = row.items[1]
    house.store = store

    house.planner.plan(job)
    house.work_off()

    assert house.state(job) is JobState.STOPPED
    assert "not those that were approved" in (house.store.job(job).reason or "")
    assert house.adapter.calls == []


def test_equal_items_have_one_digest_and_others_another(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(max_items=1)

    def digest(items: list[Item]) -> str | None:
        return house.store.job(house.submitted(items)).items_digest

    whole = digest(["a", "b", "c"])
    monkeypatch.setattr(planning, "TEXTS_A_STRIDE", 2)

    assert digest(["a", "b", "c"]) == whole
    others: list[list[Item]] = [["a", "c", "b"], ["a", "b"], ["A", "b", "c"], ["a", "b", "c", 1.5]]
    assert len({whole, *map(digest, others)}) == 5


def test_a_planner_that_loses_its_right_holds_nothing() -> None:
    house = House(max_items=1)
    job = house.landed(keys(3))
    store = AwayStore(house.store)
    overtaken: list[Callable[[], object]] = [lambda: house.clock.advance(MINUTE)]

    def overtake() -> None:
        if overtaken:
            overtaken.pop()()
            house.store.begin_planning(job, holder="another", lasting=MINUTE)

    store.before("content", overtake)
    house.store = store

    house.planner.plan(job)

    assert house.state(job) is JobState.PLANNING
