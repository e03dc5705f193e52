"""The examiner asks the store and the broker whether all is well, and no worker."""

from collections.abc import Callable

from worker.checking import Check, Health, check_clock, check_progress
from worker.errors import StoreUnavailable, WrongMigration
from worker.store.base import Store

_UNKNOWN = "not known while the store cannot be read"


class Examiner:
    """Looks whenever it is asked; it changes nothing."""

    def __init__(
        self,
        store: Store,
        *,
        check_migration: Callable[[], None],
        ping_broker: Callable[[], str | None],
    ) -> None:
        """`check_migration` raises what the store's do; `ping_broker` tells why none answers."""
        self._store = store
        self._check_migration = check_migration
        self._ping_broker = ping_broker

    def examine(self) -> Health:
        """Look at everything."""
        store, migrations, clock, progress = self._examine_store()
        return Health((store, migrations, self._examine_broker(), clock, progress))

    def _examine_store(self) -> tuple[Check, Check, Check, Check]:
        """Store, migrations, clock and progress."""
        answers = Check("store", is_ok=True, message="it answers")
        clock, progress = _not_ok("clock", _UNKNOWN), _not_ok("progress", _UNKNOWN)
        try:
            self._check_migration()
            measures = self._store.measure()
        except WrongMigration as wrong:
            return answers, _not_ok("migrations", str(wrong)), clock, progress
        except StoreUnavailable as away:
            told = Check("store", is_ok=False, message=_one_line(str(away)), is_away=True)
            return told, _not_ok("migrations", _UNKNOWN), clock, progress
        at_head = Check("migrations", is_ok=True, message="it is at this program's migration")
        return answers, at_head, check_clock(measures.ticked), check_progress(measures)

    def _examine_broker(self) -> Check:
        """Whether the broker answers."""
        fault = self._ping_broker()
        if fault is None:
            return Check("broker", is_ok=True, message="it answers")
        return Check("broker", is_ok=False, message=_one_line(fault), is_away=True)


def _not_ok(name: str, message: str) -> Check:
    return Check(name, is_ok=False, message=_one_line(message))


def _one_line(text: str) -> str:
    """What drivers say has line breaks."""
    return " ".join(text.split())
