"""OAuth 2.0 as the token endpoints of vendors speak it (RFC 6749, sections 5 and 6)."""

from collections.abc import Callable
from datetime import timedelta

from api_adapters.answer import Answer, undocumented
from api_adapters.errors import CallFailed, Hopeless, Refused
from api_adapters.settings import Secret
from api_adapters.token import Login

#: No token is trusted longer, whatever its endpoint says.
LONGEST_LIFE = timedelta(days=1)
#: RFC 6749, 5.2, without `invalid_scope`: those of a login that is wrong.
_REFUSALS = {"invalid_client", "invalid_grant", "unauthorized_client", "unauthorized"}


def read_login(answer: Answer, *, change: str) -> Login:
    """The token in an answer of a token endpoint; `change` names its settings.

    Raises:
        Transient, Hopeless: there is none; never `Refused`, since nothing of it
            lies in the items.
    """
    match answer.status, answer.document:
        case 200, {"access_token": str(token), **rest} if token:
            renewed = rest.get("refresh_token")
            refresh_token = renewed if isinstance(renewed, str) and renewed else None
            return Login(token, _life(rest.get("expires_in")), refresh_token)
    raise _failure(answer, change)


class Consent:
    """A refresh token: as configured, or as the last answer renewed it.

    A renewed one replaces the one before it (section 6), in this process alone,
    until another is configured or it is refused. One thread at a time uses it:
    a `SharedToken` logs in once between all.
    """

    def __init__(self, configured: Secret) -> None:
        self._configured = configured
        self._renewed_by_origin: dict[str, str] = {}

    def log_in(self, ask: Callable[[str], Answer], *, change: str) -> Login:
        """Ask the token endpoint, with the refresh token that holds now.

        Raises:
            Transient, Hopeless: what `read_login` raises, or nothing is configured.
        """
        origin = self._configured.reveal()
        held = self._renewed_by_origin.get(origin, origin)
        try:
            login = read_login(ask(held), change=change)
        except Hopeless:
            self._renewed_by_origin.clear()
            raise
        self._renewed_by_origin = {origin: login.refresh_token or held}
        return login


def _failure(answer: Answer, change: str) -> CallFailed:
    document = answer.document
    word = document.get("error") if isinstance(document, dict) else None
    if answer.status in {400, 401, 403} or word in _REFUSALS:
        return Hopeless(
            f"{answer.place}: the login is refused; change {change}",
            may_have_run=False,
            code=word if word in _REFUSALS else str(answer.status),
            closes_target=True,
        )
    failure = undocumented(answer, change="base_url")
    if isinstance(failure, Refused):
        return Hopeless(failure.message, may_have_run=False, code=failure.code, closes_target=True)
    return failure


def _life(seconds: object) -> timedelta | None:
    """How long the token lives; None where the answer does not say."""
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit():
        seconds = int(seconds[:9])
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        return None
    return timedelta(seconds=min(seconds, LONGEST_LIFE.total_seconds()))
