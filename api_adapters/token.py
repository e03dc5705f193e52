"""One login, shared by all threads of an adapter."""

import threading
from collections.abc import Callable

from api_adapters.base import Deadline
from api_adapters.errors import Transient


class SharedToken:
    """Keeps the token of the last login.

    Threads that are told 401 at once log in once between them: every login is a
    request that passes the pace, and may end the session of the one before.
    """

    def __init__(self, log_in: Callable[[Deadline], str]) -> None:
        self._log_in = log_in
        self._lock = threading.Lock()
        self._token: str | None = None

    def current(self, until: Deadline) -> str:
        """The token to use now; logs in if there is none yet.

        Raises:
            Transient, Hopeless: what the login raises; `may_have_run` is false.
        """
        return self._token or self._renew(None, until)

    def newer_than(self, stale: str, until: Deadline) -> str:
        """The token to use after `stale` was refused; logs in if nobody has.

        Raises:
            Transient, Hopeless: what the login raises; `may_have_run` is false.
        """
        return self._renew(stale, until)

    def _renew(self, stale: str | None, until: Deadline) -> str:
        if not self._lock.acquire(timeout=max(until.seconds_left, 0)):
            raise Transient("no time was left to wait for a login", may_have_run=False)
        try:
            if self._token is None or self._token == stale:
                # Forgotten first: a login that fails leaves no refused token.
                self._token = None
                self._token = self._log_in(until)
            return self._token
        finally:
            self._lock.release()
