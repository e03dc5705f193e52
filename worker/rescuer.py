"""The rescuer gives back what lost workers had claimed."""

from collections.abc import Callable, Mapping

from worker.batch import Claimed, Returned
from worker.job import JobId
from worker.judging import Circumstances, judge_loss
from worker.retrying import RetryRules
from worker.store.base import Store
from worker.target import Target

#: Leases taken over in one transaction.
LEASES_A_STRIDE = 20


class Rescuer:
    """Takes over leases that ran out; several may do so at once."""

    def __init__(
        self, store: Store, *, targets: Mapping[str, Target], chance: Callable[[], float]
    ) -> None:
        self._store = store
        self._targets = targets
        self._chance = chance

    def rescue(self) -> tuple[JobId, ...]:
        """Give back some lost leases; jobs that may have ended with them."""
        return self._store.rescue(self._decide, limit=LEASES_A_STRIDE).jobs

    def _decide(self, target: str, claimed: Claimed) -> Returned:
        known = self._targets.get(target)
        rules = RetryRules(max_attempts=known.max_attempts) if known else RetryRules()
        return judge_loss(claimed, given=Circumstances(rules, self._chance()))
