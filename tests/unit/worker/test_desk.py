"""The desk: what each public task answers, and what it refuses."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from api_adapters.errors import BadSettings
from tests.factories import keys, some_id
from tests.fakes import AwayStore, House
from worker.desk import Answer, Desk
from worker.errors import RefusedRequest
from worker.job import JobState
from worker.store.base import Who
from worker.store.memory import MemoryStore

STATUS = {
    "id", "target", "state", "reason", "items", "duplicates", "pending", "tally", "batches",
    "requested_by", "parent", "children", "created_at", "started_at", "finished_at",
    "rate_per_second", "eta_seconds", "waiting_for",
}  # fmt: skip
TALLY = ["deleted", "absent", "accepted", "denied", "rejected", "failed", "unknown", "skipped"]


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=4)


def refusal(ask: Callable[[Mapping[str, Any]], Answer], **given: Any) -> RefusedRequest:
    with pytest.raises(RefusedRequest) as refused:
        ask(given)
    return refused.value


def submit(house: House, **given: Any) -> str:
    named = {"job": some_id(), "target": "crm", "items": keys(3), **given}
    job: str = house.desk.submit(named).body["job"]
    return job


# -- submit ---------------------------------------------------------------------


def test_submit_answers_with_job_items_and_duplicates(house: House) -> None:
    job = some_id()

    answer = house.desk.submit({"job": job, "target": "crm", "items": ["a", "A", "b", 1.5]})

    assert answer.body == {"job": job, "items": 3, "duplicates": 1}
    assert answer.ring == ("crm",)
    assert house.state(job) is JobState.RUNNING


def test_what_is_shown_of_a_submission_is_a_count(house: House) -> None:
    answer = house.desk.submit({"job": some_id(), "target": "crm", "items": ["somebody"]})

    assert "somebody" not in answer.shown
    assert "items=1" in answer.shown


def test_a_message_without_a_job_is_the_job(house: House) -> None:
    message = some_id()

    for _ in range(2):
        answer = house.desk.submit({"target": "crm", "items": ["a"]}, message_id=message)

    assert answer.body["job"] == message
    assert len(house.store.jobs(limit=10)) == 1


def test_an_empty_job_id_is_no_missing_one(house: House) -> None:
    refused = refusal(house.desk.submit, job="", target="crm", items=[])

    assert refused.code == "invalid_message"


def test_a_repeated_submission_is_the_same_job_even_when_it_has_ended(house: House) -> None:
    given = {"job": some_id(), "target": "crm", "items": ["a", "a"]}
    first = house.desk.submit(given).body
    house.work_off()

    assert house.desk.submit(given).body == first
    assert len(house.adapter.calls) == 1


@pytest.mark.parametrize(
    "other", [{"items": ["b"]}, {"dry_run": True}, {"requested_by": "Ada"}, {"items": ["a", "a"]}]
)
def test_the_same_id_with_other_content_is_refused(house: House, other: dict[str, Any]) -> None:
    job = submit(house, items=["a"])
    given = {"job": job, "target": "crm", "items": ["a"], **other}

    assert refusal(house.desk.submit, **given).code == "job_conflict"


def test_a_dry_run_sends_nothing(house: House) -> None:
    job = submit(house, dry_run=True)

    house.work()

    assert house.adapter.calls == []
    assert set(house.told(job).values()) == {"skipped/none"}


def test_a_job_of_no_items_is_settled_by_whoever_follows(house: House) -> None:
    job = some_id()

    answer = house.desk.submit({"job": job, "target": "crm", "items": []})

    assert answer.settle == (job,)
    assert house.settler.settle(job) is not None
    assert house.state(job) is JobState.COMPLETED


REFUSED_SUBMISSIONS = [
    ({"target": "nobody"}, "unknown_target"),
    ({"items": None}, "invalid_message"),
    ({"items": None, "query": {"a": 1}}, "query_not_allowed"),
    ({"query": {"a": 1}}, "invalid_message"),
    ({"notify": "nobody"}, "invalid_message"),
    ({"items": ["a"] * 10_001}, "too_many_items"),
    ({"items": ["a", "x" * 17_000]}, "too_large"),
    ({"wrong": 1}, "invalid_message"),
    ({"job": "7"}, "invalid_message"),
]


@pytest.mark.parametrize(("given", "code"), REFUSED_SUBMISSIONS)
def test_a_refused_submission_leaves_no_trace(
    house: House, given: dict[str, Any], code: str
) -> None:
    submit(house)
    before = content(house)

    named = {"job": some_id(), "target": "crm", "items": ["a"], **given}

    assert refusal(house.desk.submit, **named).code == code
    assert content(house) == before


def content(house: House) -> dict[str, Any]:
    """All that the store holds."""
    assert isinstance(house.store, MemoryStore)
    rows = house.store._rows
    return deepcopy({name: getattr(rows, name) for name in ("jobs", "leases", "events")})


def test_a_query_is_refused_where_it_is_allowed_but_cannot_be_asked() -> None:
    house = House(allow_query=True)

    refused = refusal(house.desk.submit, job=some_id(), target="crm", query={})

    assert refused.code == "query_refused"


def test_an_unknown_target_is_told_with_those_that_are_known(house: House) -> None:
    refused = refusal(house.desk.submit, job=some_id(), target="cmr", items=[])

    assert refused.message == "there is no target 'cmr'; configured: crm"
    assert refused.data == {"target": "cmr"}


def test_a_job_lands_though_it_cannot_be_planned_at_once(house: House) -> None:
    store = AwayStore(house.store)
    house.store = store
    store.be_away("begin_planning", 1)
    job = some_id()

    answer = house.desk.submit({"job": job, "target": "crm", "items": ["a"], "dry_run": True})

    assert answer.plan == (job,)
    assert house.state(job) is JobState.PLANNING


def test_a_job_of_one_message_is_planned_as_it_lands(house: House) -> None:
    store = AwayStore(house.store)
    house.store = store
    store.be_away("begin_planning", 1)
    job = some_id()

    answer = house.desk.submit({"job": job, "target": "crm", "items": keys(5)})

    assert answer.ring == ("crm",)
    assert house.state(job) is JobState.RUNNING
    house.work_off()
    assert set(house.told(job).values()) == {"deleted/item"}


# -- a job in chunks ------------------------------------------------------------


def opened(house: House, *, chunk_items: int = 2) -> str:
    job = some_id()
    body = house.desk.open({"job": job, "target": "crm", "chunk_items": chunk_items}).body
    assert body == {"job": job}
    return job


def test_chunks_may_come_in_any_order_and_twice(house: House) -> None:
    job = opened(house)
    desk = house.desk

    last = desk.append({"job": job, "chunk": 1, "items": ["c"]})
    sealed = desk.seal({"job": job, "chunks": 2})
    first = desk.append({"job": job, "chunk": 0, "items": ["a", "b"]})
    again = desk.append({"job": job, "chunk": 0, "items": ["a", "b"]})
    house.planner.plan(job)
    house.work_off()

    assert last.body == {"job": job, "chunk": 1, "items": 1}
    assert sealed.body == {"job": job, "state": "open", "missing": [0]}
    assert (first.body["items"], first.plan) == (2, (job,))
    assert again.body == first.body
    assert [one.position for one in house.outcomes(job)] == [0, 1, 2]


def test_a_chunk_holds_no_more_than_was_said(house: House) -> None:
    job = opened(house)

    refused = refusal(house.desk.append, job=job, chunk=0, items=["a", "b", "c"])

    assert (refused.code, refused.data) == ("too_many_items", {"limit": 2})


@pytest.mark.parametrize(
    ("task", "given", "code"),
    [
        ("append", {"chunk": 0, "items": ["other"]}, "job_conflict"),
        ("append", {"chunk": 5, "items": ["late"]}, "job_sealed"),
        ("seal", {"chunks": 2}, "job_conflict"),
        ("submit", {"target": "crm", "items": ["a"]}, "job_conflict"),
        ("open", {"target": "crm", "chunk_items": 3}, "job_conflict"),
    ],
)
def test_what_contradicts_a_sealed_job_is_refused(
    house: House, task: str, given: dict[str, Any], code: str
) -> None:
    job = opened(house)
    house.desk.append({"job": job, "chunk": 0, "items": ["a"]})
    house.desk.seal({"job": job, "chunks": 1})
    before = content(house)

    assert refusal(getattr(house.desk, task), job=job, **given).code == code
    assert content(house) == before


def test_sealing_again_answers_alike(house: House) -> None:
    job = opened(house)
    house.desk.append({"job": job, "chunk": 0, "items": ["a"]})

    first = house.desk.seal({"job": job, "chunks": 1})

    assert house.desk.seal({"job": job, "chunks": 1}).body == first.body
    assert first.plan == (job,)


# -- reading -----------------------------------------------------------------------


@pytest.mark.parametrize("task", ["status", "results", "pause", "resume", "cancel", "retry"])
def test_a_job_that_is_not_there_is_refused(house: House, task: str) -> None:
    assert refusal(getattr(house.desk, task), job=some_id()).code == "unknown_job"


@pytest.mark.parametrize("task", ["append", "seal"])
def test_a_job_that_is_not_open_takes_nothing(house: House, task: str) -> None:
    given = {"append": {"chunk": 0, "items": []}, "seal": {"chunks": 1}}[task]

    assert refusal(getattr(house.desk, task), job=some_id(), **given).code == "unknown_job"


def test_the_status_has_every_key(house: House) -> None:
    job = submit(house, requested_by="Ada")

    body = house.desk.status({"job": job}).body

    assert set(body) == STATUS
    assert list(body["tally"]) == TALLY
    assert set(body["batches"]) == {"ready", "leased", "done", "split"}
    assert (body["state"], body["pending"], body["requested_by"]) == ("running", 3, "Ada")


def test_results_come_in_pages_by_position(house: House) -> None:
    job = submit(house, items=["a", 1.5, "b"])
    house.work_off()

    first = house.desk.results({"job": job, "limit": 2}).body
    last = house.desk.results({"job": job, "after": first["next"]}).body

    assert [row["item"] for row in first["rows"] + last["rows"]] == ["a", 1.5, "b"]
    assert last["next"] is None
    assert list(first["rows"][0]) == [
        "position", "item", "verdict", "evidence", "code", "message", "attempts", "decided_at",
    ]  # fmt: skip
    assert first["rows"][1] | {"decided_at": None} == {
        "position": 1,
        "item": 1.5,
        "verdict": "rejected",
        "evidence": "none",
        "code": "malformed",
        "message": "expected a string, an integer or an object",
        "attempts": 0,
        "decided_at": None,
    }


def test_results_of_one_verdict(house: House) -> None:
    job = submit(house, items=["a", 1.5, "b"])
    house.work_off()

    body = house.desk.results({"job": job, "verdict": "rejected"}).body

    assert [row["position"] for row in body["rows"]] == [1]


def test_an_item_tells_of_every_job_that_named_it(house: House) -> None:
    first = submit(house, items=["a"])
    house.work_off()
    house.clock.advance(timedelta(seconds=1))
    second = submit(house, items=["A"], requested_by="Ada")
    house.work_off()

    body = house.desk.item({"target": "crm", "item": {"id": "a"}}).body

    assert (body["target"], body["item"], body["protected"]) == ("crm", {"id": "a"}, False)
    told = [(one["job"], one["verdict"], one["requested_by"]) for one in body["jobs"]]
    assert told == [(second, "absent", "Ada"), (first, "deleted", None)]


@pytest.mark.parametrize("item", [None, 1.5, True, [], ["a"], "", {"no": "id"}])
def test_what_is_no_item_was_never_seen(house: House, item: Any) -> None:
    assert house.desk.item({"target": "crm", "item": item}).body["jobs"] == []


def test_an_item_of_an_unknown_target_is_refused(house: House) -> None:
    assert refusal(house.desk.item, target="cmr", item="a").code == "unknown_target"


def test_an_item_of_a_target_that_cannot_be_built_is_refused(house: House) -> None:
    def cannot(_: str) -> Any:
        raise BadSettings("no such file")

    desk = Desk(
        house.store,
        submitter=house.submitter,
        planner=house.planner,
        targets=house.targets,
        adapters=cannot,
    )

    assert refusal(desk.item, target="crm", item="a").code == "unknown_target"


def test_an_item_that_is_nested_too_deep_is_refused(house: House) -> None:
    item: Any = "a"
    for _ in range(500):
        item = {"id": item}

    assert refusal(house.desk.item, target="crm", item=item).code == "invalid_message"


# -- commands -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commands", "state"),
    [
        (["pause"], "paused"),
        (["pause", "pause"], "paused"),
        (["pause", "resume"], "running"),
        (["pause", "resume", "resume"], "running"),
        (["cancel"], "cancelling"),
        (["cancel", "cancel"], "cancelling"),
    ],
)
def test_a_command_answers_with_the_status_and_may_be_repeated(
    house: House, commands: list[str], state: str
) -> None:
    job = submit(house)

    for command in commands:
        answer = getattr(house.desk, command)({"job": job})

    assert set(answer.body) == STATUS
    assert answer.body["state"] == state


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_command_that_comes_too_late_is_refused(house: House, command: str) -> None:
    job = submit(house)
    house.work_off()

    assert refusal(getattr(house.desk, command), job=job).code == "wrong_state"


def test_a_cancelled_job_is_settled_by_whoever_follows(house: House) -> None:
    job = submit(house)

    assert house.desk.cancel({"job": job}).settle == (job,)


def test_a_job_that_waits_for_approval_is_neither_rung_nor_planned() -> None:
    house = House(max_items=2)

    answer = house.desk.submit({"job": some_id(), "target": "crm", "items": keys(3)})

    assert (answer.ring, answer.plan, answer.settle) == ((), (), ())
    house.store.approve(answer.body["job"], Who())
    assert house.desk.status({"job": answer.body["job"]}).plan == (answer.body["job"],)
