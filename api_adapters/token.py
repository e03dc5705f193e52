"""One login, shared by all threads of an adapter."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from api_adapters.answer import Answer
from api_adapters.base import Deadline
from api_adapters.errors import Transient

#: A token is renewed that long before its end, or in the last tenth of a
#: shorter life: a call that begins with it should not end without it.
RENEWED_AHEAD = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Login:
    """What a login gave: a token, and how long it lives where that was told."""

    token: str = field(repr=False)
    lasts: timedelta | None = None
    #: What the next login is asked with, where this one renewed it.
    refresh_token: str | None = field(default=None, repr=False)


class SharedToken:
    """Keeps the token of the last login.

    Threads that are told 401 at once log in once between them: every login is a
    request that passes the pace, and may end the session of the one before.
    """

    def __init__(
        self,
        log_in: Callable[[Deadline], str | Login],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_in = log_in
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._ends_at = float("inf")

    def current(self, until: Deadline) -> str:
        """The token to use now; logs in if there is none yet, or its end is near.

        Raises:
            Transient, Hopeless: what the login raises; `may_have_run` is false.
        """
        token = self._token
        if token is None or self._clock() >= self._ends_at:
            return self._renew(token, until)
        return token

    def newer_than(self, stale: str, until: Deadline) -> str:
        """The token to use after `stale` was refused; logs in if nobody has.

        Raises:
            Transient, Hopeless: what the login raises; `may_have_run` is false.
        """
        return self._renew(stale, until)

    def spend(
        self,
        send: Callable[[str], Answer],
        *,
        is_refused: Callable[[Answer], bool],
        until: Deadline,
    ) -> Answer:
        """Send with the token; once more with a newer one if it was refused."""
        token = self.current(until)
        answer = send(token)
        if not is_refused(answer):
            return answer
        return send(self.newer_than(token, until))

    def _renew(self, stale: str | None, until: Deadline) -> str:
        if not self._lock.acquire(timeout=max(until.seconds_left, 0)):
            raise Transient("no time was left to wait for a login", may_have_run=False)
        try:
            if self._token is None or self._token == stale:
                # Forgotten first: a login that fails leaves no refused token.
                self._token = None
                self._keep(self._log_in(until))
            return self._token or ""
        finally:
            self._lock.release()

    def _keep(self, given: str | Login) -> None:
        login = given if isinstance(given, Login) else Login(given)
        self._ends_at = float("inf")
        if login.lasts is not None:
            ahead = min(RENEWED_AHEAD, login.lasts / 10)
            self._ends_at = self._clock() + (login.lasts - ahead).total_seconds()
        self._token = login.token
