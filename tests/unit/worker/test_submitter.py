"""The submitter: plans and retries; what the public tasks ask is tested at the desk."""

import pytest

from api_adapters.errors import BadSettings
from tests.factories import keys, some_id
from tests.fakes import House, unreached
from worker.errors import RefusedRequest
from worker.requests import Submit
from worker.submitter import Submitter


@pytest.fixture
def house() -> House:
    return House(max_items_per_call=4, max_attempts=1)


def test_a_target_that_cannot_be_built_is_refused(house: House) -> None:
    def cannot(_: str) -> object:
        raise BadSettings("no such file")

    submitter = Submitter(house.store, targets=house.targets, adapters=cannot)

    with pytest.raises(RefusedRequest, match="target 'crm': no such file") as refused:
        submitter.submit(Submit(job=some_id(), target="crm", items=["a"]))
    assert refused.value.code == "unknown_target"
    assert not house.store.jobs(limit=1)


def test_a_plan_that_is_no_dry_run_is_refused(house: House) -> None:
    job = house.submitted(keys(2))
    house.work_off()

    with pytest.raises(RefusedRequest) as refused:
        house.submitter.open_plan(some_id(), plan=job, requested_by=None)

    assert refused.value.code == "wrong_state"


def test_a_plan_of_a_target_that_has_changed_is_refused(house: House) -> None:
    plan = house.submitted(keys(2), dry_run=True)
    house.adapter = type("Elsewhere", (type(house.adapter),), {"identity": ("max_items",)})()
    house.targets["crm"] = house.target_of("crm", max_items=7)

    with pytest.raises(RefusedRequest) as refused:
        house.submitter.open_plan(some_id(), plan=plan, requested_by=None)

    assert refused.value.code == "wrong_state"


def test_a_retry_is_one_job_however_often_it_is_asked_for(house: House) -> None:
    house.adapter.will(unreached())
    parent = house.submitted(keys(6))
    house.work_off()

    children = {house.submitter.retry(parent).id for _ in range(3)}
    (child,) = children
    house.planner.plan(child)
    house.work_off()

    assert house.told(child) == {f"k{number}": "deleted/item" for number in range(4)}
    assert house.store.job(child).parent == parent
