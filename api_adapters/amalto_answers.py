"""What the answers of an Amalto instance say.

A body with `processed` and `errors` is a partial result whatever its status;
an object with `status` and `developerMessage` is a failure of the whole
request. `message` of the result is never read.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, NamedTuple

from pydantic import BaseModel, BeforeValidator

from api_adapters.answer import Answer, trim, undocumented, whole_number
from api_adapters.base import Breach, Evidence, Finding, Presence, Reply, Verdict, Warned
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient

_CHANGE = "base_url, service_id or items_name"
_NEEDED = (
    "the account needs the permission delete (before 6.0: read and edit) on the service, and "
    "the item's Application Publisher Profile or the content mode EDIT"
)


class Name(NamedTuple):
    """What identifies an item."""

    app_key: str
    name: str

    @property
    def candidates(self) -> set[str]:
        """The keys under which `errors` may hold it; they cannot be taken apart."""
        full = f"{self.app_key}.{self.name}"
        return {full} if self.app_key else {full, self.name}


def read_answer(answer: Answer, sent: Mapping[str, Name]) -> Reply:
    """What the answer to a deletion says of each key that it accounts for.

    Raises:
        Transient, Refused, Hopeless: it says nothing of any.
    """
    results = _results(answer)
    if results is None:
        raise _failure(answer, sent.values())
    key_by_candidate = {text: key for key, name in sent.items() for text in name.candidates}
    findings: dict[str, Finding] = {}
    breaches: Counter[Breach] = Counter()
    for text, entry in results.errors.items():
        key = key_by_candidate.get(text)
        if key is None:
            breaches[Breach.STRANGER] += 1
            continue
        finding, breach = _judge(entry, answer.status, sent[key])
        breaches.update([breach] if breach else [])
        # Both candidates of an empty appKey may stand there.
        if findings.setdefault(key, finding).verdict is not finding.verdict:
            findings[key] = _OPEN
            breaches[Breach.CONTRADICTION] += 1
    if results.processed == len(sent) and Breach.STRANGER not in breaches:
        return Reply(dict.fromkeys(sent, _DELETED) | findings, warnings=_warn(breaches))
    if results.processed != len(sent):
        breaches[Breach.MISCOUNT] += 1
    # More than was sent is perhaps the answer to something else.
    if results.processed > len(sent):
        findings = {
            key: replace(found, verdict=Verdict.UNKNOWN, evidence=Evidence.NONE)
            for key, found in findings.items()
        }
    return Reply(findings, warnings=_warn(breaches))


_OPEN = Finding(Verdict.UNKNOWN, Evidence.NONE)
_DELETED = Finding(Verdict.DELETED, Evidence.BATCH)
_WARNINGS = {
    Breach.STRANGER: "errors names an item that was not asked for",
    Breach.CONTRADICTION: "what is said of one item excludes itself",
    Breach.UNHEARD: "an error has no status that can be read",
    Breach.MISCOUNT: "processed is not the number of items that were sent",
}


def _warn(breaches: Counter[Breach]) -> tuple[Warned, ...]:
    return tuple(Warned(kind, f"{_WARNINGS[kind]} ({n}x)") for kind, n in breaches.items())


def _number(given: object) -> int | None:
    """Absent stays None; what is there and is no number becomes -1."""
    number = whole_number(given)
    return -1 if number is None and given is not None else number


def _word(given: object) -> str:
    """A code, if it is one: a longer text might quote the item."""
    text = str(given) if isinstance(given, str | int) else ""
    return text if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", text) else ""


_Number = Annotated[int | None, BeforeValidator(_number)]
_Text = Annotated[str, BeforeValidator(lambda given: given if isinstance(given, str) else "")]


class _Entry(BaseModel):
    """What is kept of one error: no stack trace, nothing localized."""

    status: _Number = None
    code: Annotated[str, BeforeValidator(_word)] = ""
    message: _Text = ""
    developerMessage: _Text = ""  # noqa: N815 - the vendor's spelling
    conflictInformation: object = None  # noqa: N815


_Loose = BeforeValidator(lambda given: given if isinstance(given, dict) else {"status": -1})


class _Results(BaseModel):
    processed: Annotated[int, BeforeValidator(lambda given: _number(given) or 0)]
    errors: dict[str, Annotated[_Entry, _Loose]]


def _results(answer: Answer) -> _Results | None:
    """The partial result, whatever the status; a redirect's body is nobody's."""
    match answer.document:
        case {"processed": _, "errors": dict()} if answer.status // 100 != 3:
            return _Results.model_validate(answer.document)
    return None


def _judge(entry: _Entry, http_status: int, name: Name) -> tuple[Finding, Breach | None]:
    """What one error says of its item."""
    status = http_status if entry.status is None else entry.status
    verdict, breach = _verdict(status, has_conflict=entry.conflictInformation is not None)
    if verdict is Verdict.ABSENT:
        return Finding(verdict), breach
    said = _without(entry.developerMessage or entry.message, [name])
    if status == 403:
        said = f"{_NEEDED}: {said}"
    evidence = Evidence.NONE if verdict is Verdict.UNKNOWN else Evidence.ITEM
    return Finding(verdict, evidence, entry.code or str(status), said), breach


def _verdict(status: int, *, has_conflict: bool) -> tuple[Verdict, Breach | None]:
    """The table of verdicts, most special first."""
    match status:
        case 404 if has_conflict:
            return Verdict.UNKNOWN, Breach.CONTRADICTION
        case 404:
            return Verdict.ABSENT, None
        case _ if 200 <= status <= 299:
            return Verdict.UNKNOWN, Breach.CONTRADICTION
        case _ if has_conflict or status in {403, 409}:
            return Verdict.DENIED, None
        case 400:
            return Verdict.REJECTED, None
        # The last three have nothing to do with the item: it may go better later.
        case _ if 500 <= status <= 599 or status in {401, 408, 429}:
            return Verdict.UNKNOWN, None
        case _ if 400 <= status <= 499:
            return Verdict.FAILED, None
    return Verdict.UNKNOWN, Breach.UNHEARD


def _flat(answer: Answer) -> tuple[int, str] | None:
    """Status and text of a failure of the whole request."""
    match answer.document:
        case {"processed": _, "errors": dict()}:
            return None
        case {"status": status, "developerMessage": text}:
            number = whole_number(status)
            return answer.status if number is None else number, text if isinstance(
                text, str
            ) else ""
    return None


def _failure(answer: Answer, names: Collection[Name]) -> CallFailed:
    if is_logged_out(answer):
        return Hopeless(
            f"{answer.place}: the token is refused; change token or authorization",
            may_have_run=False,
            code="401",
            closes_target=True,
        )
    status, text = _flat(answer) or (0, "")
    ran, said = answer.may_have_run, f"{answer.place}: {_without(text, names)}"
    if answer.status == 429 or answer.status // 100 == 3:
        return undocumented(answer, change=_CHANGE)
    match status:
        case 400:
            return Refused(said, may_have_run=ran, code="400")
        case 403:
            return Hopeless(f"{said}; {_NEEDED}", may_have_run=ran, code="403")
        case 404:
            return Hopeless(
                f"{said}; change {_CHANGE}",
                may_have_run=ran and answer.status != 404,
                code="404",
                closes_target=True,
            )
        case _ if 500 <= status <= 599:
            return Transient(said, wait=answer.wait, may_have_run=ran, code=str(status))
    return undocumented(answer, change=_CHANGE)


def read_presence(answer: Answer) -> Presence | None:
    """What the look at one item saw; an empty list proves nothing.

    Raises:
        Transient, Refused, Hopeless: there was no look.
    """
    flat = _flat(answer)
    match answer.status, answer.document:
        case 404, _ if flat is not None and flat[0] == 404:
            return Presence.GONE
        case 200, {"name": _}:
            return Presence.THERE
        case (200, list() | dict()) | (400, _):
            return None
    raise _failure(answer, ())


def is_logged_out(answer: Answer) -> bool:
    """Whether the token does not count any more; one that expired may be renewed."""
    flat = _flat(answer)
    return flat[0] == 401 if flat else answer.status == 401 and _results(answer) is None


def _without(text: str, names: Collection[Name]) -> str:
    """The vendor's text in one line, without what identifies the items."""
    hidden = {word for name in names for word in (*name.candidates, *name) if word}
    if not hidden:
        return trim(text)
    longest_first = "|".join(re.escape(word) for word in sorted(hidden, key=len, reverse=True))
    return trim(re.sub(rf"(?<!\w)(?:{longest_first})(?!\w)", "<item>", text[:10_000]))
