"""OAuth 2.0 as the token endpoints of vendors speak it (RFC 6749, section 5)."""

from datetime import timedelta

from api_adapters.answer import Answer, undocumented
from api_adapters.errors import CallFailed, Hopeless, Refused
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
            return Login(token, _life(rest.get("expires_in")))
    raise _failure(answer, change)


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
