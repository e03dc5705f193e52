"""What can go wrong with one call, sorted by what to do next.

    AdapterError
    ├── Transient   a passing fault: send the items again, not before a moment
    │   └── Paced   the target's own pace does not let a request out yet
    ├── Refused     the backend refused the call because of what is in it: part it
    ├── Hopeless    no call can succeed until a person acts: stop
    ├── BadItem     this item is not valid here: reject it, it is never sent
    ├── BadQuery    this query is not valid here: refuse it, nothing is sent
    └── BadSettings the target cannot be built as it is configured

Only the first three leave `Adapter.delete`; `BadItem` leaves `Adapter.key`
alone, `BadQuery` leaves `Adapter.find` and `Adapter.check_query` alone.
"""

from datetime import timedelta


class AdapterError(Exception):
    """The root of what an adapter may raise."""


class CallFailed(AdapterError):
    """A call as a whole brought no result.

    `may_have_run` is true unless it is proven that the backend did nothing:
    a connection that was never made, a 429, the vendor's own rate code, or an
    error that the vendor documents as raised before any work.
    `code` is the backend's own code or the HTTP status, for the report.
    """

    def __init__(self, message: str, *, may_have_run: bool = True, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.may_have_run = may_have_run
        self.code = code


class Transient(CallFailed):
    """A passing fault.

    `wait` is set when the backend told how long to wait; then the fault costs
    no attempt.
    """

    def __init__(
        self,
        message: str,
        *,
        wait: timedelta | None = None,
        may_have_run: bool = True,
        code: str | None = None,
    ) -> None:
        super().__init__(message, may_have_run=may_have_run, code=code)
        self.wait = wait


class Paced(Transient):
    """The shared pace does not let a request out yet: nothing was sent."""

    def __init__(self, message: str, *, wait: timedelta) -> None:
        super().__init__(message, wait=wait, may_have_run=False, code="paced")


class Refused(CallFailed):
    """The backend refused the whole call because of what is in it."""


class Hopeless(CallFailed):
    """Credentials, a wrong address, a missing permission or a used-up quota.

    `closes_target` is true where the fault lies in the login or the address:
    then no job of the target can go on. Otherwise only the job is stopped.
    """

    def __init__(
        self,
        reason: str,
        *,
        may_have_run: bool = True,
        code: str | None = None,
        closes_target: bool = False,
    ) -> None:
        super().__init__(reason, may_have_run=may_have_run, code=code)
        self.reason = reason
        self.closes_target = closes_target


class BadItem(AdapterError):
    """An item that this backend cannot delete by its form; never sent."""

    def __init__(self, message: str, *, code: str = "invalid_item") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class BadQuery(AdapterError):
    """A query that this backend cannot answer or that narrows nothing."""


class BadSettings(AdapterError):
    """A target that cannot be built; the message names the key to change."""
