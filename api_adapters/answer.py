"""What came back from a vendor: reading it safely, and naming what went wrong."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from itertools import chain
from math import isinf
from typing import Any

from api_adapters.errors import CallFailed, Hopeless, Refused, Transient

#: No backend is waited for longer than this at a time.
LONGEST_WAIT = timedelta(hours=1)
#: For a backend that says "too many requests" without saying how long.
USUAL_WAIT = timedelta(seconds=5)

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, whole; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    #: Scheme, host and the adapter's own name of the route, for messages.
    place: str
    #: False for an answer to a request that deletes nothing.
    may_have_run: bool = True

    @cached_property
    def document(self) -> object:
        """The document in the body; None where there is none to rely on.

        Doubled keys, NaN, numbers out of all bounds and bottomless nesting make
        a document unreliable, whatever the parser could have made of them.
        """
        try:
            return _read(self.body.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None

    @property
    def is_broken_json(self) -> bool:
        """Whether the body begins as a document and is none."""
        return self.body.lstrip()[:1] in {b"{", b"["} and self.document is None

    @property
    def wait(self) -> timedelta | None:
        """How long the backend asks to wait; None if it does not say."""
        return retry_after(self.headers, now=datetime.now(UTC))


def undocumented(answer: Answer, *, change: str) -> CallFailed:
    """The error for an answer that is not what the vendor documents.

    `change` names the settings that lead to this route, for the reader of
    "wrong address".
    """
    said = f"{answer.place}: HTTP {answer.status}"
    code = str(answer.status)
    match answer.status:
        case 429:
            return Transient(
                f"{said}, too many requests",
                wait=USUAL_WAIT if answer.wait is None else answer.wait,
                may_have_run=False,
                code=code,
            )
        # JSON that was cut short may have told of work that was done.
        case 403 | 404 | 405 | 415 | 501 if answer.is_broken_json:
            pass
        case 404 | 405 | 415 | 501:
            return Hopeless(
                f"{said} without a body that the vendor documents: nothing answers there; "
                f"change {change}",
                may_have_run=False,
                code=code,
                closes_target=True,
            )
        case 403:
            return Hopeless(
                f"{said}: the permission is missing", may_have_run=answer.may_have_run, code=code
            )
        case 407:
            return Hopeless(
                f"{said}: the proxy asks for a login; change proxy",
                may_have_run=False,
                code=code,
                closes_target=True,
            )
        case 413 | 414:
            return Refused(
                f"{said}: the request is too large", may_have_run=answer.may_have_run, code=code
            )
    return Transient(
        f"{said} with {_describe(answer)}, which the vendor does not document",
        wait=answer.wait,
        may_have_run=answer.may_have_run,
        code=code,
    )


def retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """How long the answer asks to wait, at most an hour; None if it does not say.

    >>> retry_after({"retry-after": "120"}, now=datetime.now(UTC))
    datetime.timedelta(seconds=120)
    """
    asked = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", asked, re.ASCII):
        # Longer than the longest wait, and perhaps than any integer allowed.
        if len(asked) > 6:
            return LONGEST_WAIT
        return min(timedelta(seconds=int(asked)), LONGEST_WAIT)
    moment = _http_date(asked)
    if moment is None:
        return None
    # The backend's own clock made the moment, so measure against that one.
    wait = moment - (_http_date(headers.get("date", "")) or now)
    return min(max(wait, timedelta(0)), LONGEST_WAIT)


def whole_number(value: object) -> int | None:
    """A count or a code, perhaps written as text; None if it is neither.

    >>> [whole_number(given) for given in (0, "403106", True, 2.0, "2.0")]
    [0, 403106, None, None, None]
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def trim(text: str, *, length: int = 200) -> str:
    """Text of a backend as one bounded line without control characters.

    >>> trim("not\\r\\nvalid\\x1b[2J")
    'not valid [2J'
    """
    # Only what can become part of the result is looked at: bodies are large.
    seen = text[: length * 4]
    line = " ".join("".join(c if c.isprintable() else " " for c in seen).split())
    if len(line) <= length and len(seen) == len(text):
        return line
    return line[: length - 1] + "…"


def without_ids(text: str, ids: Collection[str]) -> str:
    """A backend's text in one line, ids that were sent left out whatever their case.

    >>> without_ids("contact 50F is\\nlocked", {"50f"})
    'contact <id> is locked'
    """
    known = {ident.lower() for ident in ids}
    hidden = _WORD.sub(lambda word: "<id>" if word[0].lower() in known else word[0], text[:10_000])
    return trim(_UUID.sub("<id>", hidden))


def _describe(answer: Answer) -> str:
    if not answer.body:
        return "an empty body"
    if answer.body.lstrip()[:1] == b"<":
        return "a page of HTML or XML"
    if answer.document is None:
        return "a body that is no JSON"
    return "a body"


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read(text: str) -> object:
    """A document without a doubled key. Raises ValueError, RecursionError.

    Each key in a document is followed by a colon: where there are as many names
    in the objects read as colons in all of the text, none was there twice. A
    colon in some value leaves it to the reader that looks at each object and
    takes three times as long.
    """
    document = _PLAIN_JSON.decode(text)
    if _names_in([document]) == text.count(":"):
        return document
    return _JSON.decode(text)


def _names_in(values: Iterable[object]) -> int:
    """How many names all objects have, however deep."""
    count = 0
    layer = list(values)
    # Most layers have no container in them, which is told without a step a value.
    while not _CONTAINERS.isdisjoint(map(type, layer)):
        objects = [one for one in layer if type(one) is dict]
        count += sum(map(len, objects))
        lists = (one for one in layer if type(one) is list)
        layer = list(chain(*map(dict.values, objects), *lists))
    return count


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands there twice")
    return document


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError("a number out of all bounds")
    return number


_CONTAINERS = frozenset({dict, list})
_PLAIN_JSON = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_JSON = json.JSONDecoder(
    object_pairs_hook=_without_doubles, parse_constant=_refuse, parse_float=_finite
)
