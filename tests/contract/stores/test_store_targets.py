"""How every store opens a target again that was closed."""

from tests.contract.stores.steps import Steps
from tests.factories import MINUTE
from worker.store.base import Busy, Claim, Store, Who


def test_a_closed_target_is_tried_again_at_once_when_it_is_opened(
    store: Store, steps: Steps
) -> None:
    job = steps.running(2)
    store.close_target("crm", reason="the token is wrong", rest=MINUTE)
    assert isinstance(steps.try_claim(), Busy)

    assert store.open_target("crm", Who(os_user="ops"))

    assert isinstance(steps.try_claim(), Claim)
    assert store.target_note("crm")["closed_reason"] is None
    assert "target.opened" in {event.kind for event in store.events(None, limit=10)}
    assert store.status(job).waiting_for is None


def test_an_open_target_has_nothing_to_open(store: Store, steps: Steps) -> None:
    steps.running(2)

    assert not store.open_target("crm", Who())
