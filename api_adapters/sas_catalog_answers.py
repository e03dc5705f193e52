"""What SAS Catalog answers, and what each answer means; see `sas_catalog`."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from api_adapters.answer import Answer, undocumented, whole_number, without_ids
from api_adapters.base import Breach, Evidence, Finding, Reply, Verdict, Warned
from api_adapters.errors import BadQuery, CallFailed, Hopeless, Refused, Transient

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
#: An error of the vendor has one of these, of which only `message` is dependable.
_ERROR_FIELDS = {"message", "errorCode", "httpStatusCode"}
_DELETED = Finding(Verdict.DELETED)
_TOO_MUCH = Finding(Verdict.UNKNOWN, Evidence.NONE, "429")

_Breach = tuple[Breach, str]


def canonical(uri: str) -> str:
    """A URI as it is sent and compared: a UUID has no case, another id has."""
    head, slash, ident = uri.rpartition("/")
    return head + slash + (ident.lower() if _UUID.fullmatch(ident) else ident)


def is_logged_out(answer: Answer) -> bool:
    """Whether the token was not taken; a map beside it changes nothing of that."""
    return _overall(answer) == 401


def read_answer(answer: Answer, sent: Collection[str]) -> Reply:
    """What the answer to a deletion says of each resource that it names.

    Raises:
        Transient, Refused, Hopeless: it says nothing of any.
    """
    document = answer.document
    if not isinstance(document, dict) or document.keys() & _ERROR_FIELDS:
        raise failure_of(answer, sent)
    if answer.status // 100 == 3 or not any(name.startswith("/") for name in document):
        raise failure_of(answer, sent)
    return _let_wait(_read_map(document, answer.status, sent), answer, sent)


def read_page(answer: Answer) -> tuple[list[str], str | None]:
    """The URIs on a page, and where the next one is.

    Raises:
        BadQuery: the vendor does not take the filter.
        Transient, Refused, Hopeless: it is no such page.
    """
    match answer.status, answer.document:
        case 200, {"items": list(items), **rest}:
            uris = [_link(item, "self") for item in items]
            if None not in uris:
                return [uri for uri in uris if uri], _link(rest, "next")
        case 400, {"message": str(message)}:
            raise BadQuery(f"the backend does not take the filter: {without_ids(message, ())}")
    raise failure_of(answer, ())


def failure_of(answer: Answer, sent: Collection[str]) -> CallFailed:
    """What an answer means that tells of no item."""
    if is_logged_out(answer):
        return Hopeless(
            f"{answer.place}: refused right after a login; change token or oauth",
            may_have_run=False,
            code="401",
            closes_target=True,
        )
    error = answer.document if isinstance(answer.document, dict) else {}
    if not error.keys() & _ERROR_FIELDS or answer.status // 100 == 3:
        return undocumented(answer, change="base_url")
    said = f"{answer.place}: {_said(error, sent)}"
    status, ran = _overall(answer), answer.may_have_run
    code = _code(error) or str(status)
    if status == 400:
        return Refused(said, may_have_run=ran, code=code)
    if status == 403:
        return Hopeless(said, may_have_run=ran, code=code)
    if status // 100 == 5 and status != 501:
        return Transient(said, wait=answer.wait, may_have_run=ran, code=code)
    return undocumented(replace(answer, status=status), change="base_url")


def _overall(answer: Answer) -> int:
    """The answer's status; a single error in a 200 brings its own."""
    match answer.document:
        case {"httpStatusCode": own} if answer.status // 100 == 2:
            return _status({"httpStatusCode": own}) or answer.status
    return answer.status


def _read_map(document: Mapping[str, object], status: int, sent: Collection[str]) -> Reply:
    findings: dict[str, Finding] = {}
    breaches: Counter[_Breach] = Counter()
    for name, told in document.items():
        key = canonical(name)
        if key not in sent:
            breaches[Breach.STRANGER, "the map names a resource that was not asked for"] += 1
            continue
        finding, breach = _judge(told, status, key)
        if breach is not None:
            breaches[breach] += 1
        earlier = findings.setdefault(key, finding)
        if earlier.verdict != finding.verdict:
            findings[key] = _open()
            breaches[Breach.CONTRADICTION, "one resource is told twice, differently"] += 1
    warnings = [Warned(kind, f"{text} ({times}x)") for (kind, text), times in breaches.items()]
    return Reply(findings=findings, warnings=tuple(warnings))


def _let_wait(reply: Reply, answer: Answer, sent: Collection[str]) -> Reply:
    """Resources that were too much were not touched: they wait, and are in no doubt."""
    busy = {key for key, finding in reply.findings.items() if finding is _TOO_MUCH}
    if not busy:
        return reply
    findings = dict.fromkeys(sent, _open()) | dict(reply.findings)
    settled = {key: finding for key, finding in findings.items() if key not in busy}
    error = undocumented(replace(answer, status=429), change="base_url")
    return replace(reply, findings=settled, error=error)


def _judge(told: object, status: int, key: str) -> tuple[Finding, _Breach | None]:
    """What one value of the map means, most special first."""
    if not isinstance(told, dict):
        return _open(), (Breach.UNHEARD, "a value of the map is no object")
    if not told and status == 401:
        return _open(), (Breach.CONTRADICTION, "{} in an answer of status 401")
    if not told:
        said = f"{{}} in an answer of status {status}"
        return _DELETED, None if status // 100 == 2 else (Breach.CONTRADICTION, said)
    if not told.keys() & _ERROR_FIELDS:
        return _open(), (Breach.UNHEARD, "a value of the map is neither {} nor an error")
    return _judge_error(told, status, key)


def _judge_error(error: Mapping[str, Any], shared: int, key: str) -> tuple[Finding, _Breach | None]:
    own = _status(error)
    status = own if own is not None else shared if shared not in {200, 400} else None
    if status == 429:
        return _TOO_MUCH, None
    code = _code(error) or (str(status) if status else None)
    message = _said(error, (key.rpartition("/")[2],))
    verdict = _verdict(status)
    evidence = Evidence.NONE if verdict is Verdict.UNKNOWN else Evidence.ITEM
    given = whole_number(error.get("httpStatusCode"))
    if given is not None and 200 <= given < 400:
        breach = (Breach.CONTRADICTION, f"an error with status {given}")
        return Finding(verdict, evidence, code, message), breach
    return Finding(verdict, evidence, code, message), None


def _verdict(status: int | None) -> Verdict:
    match status:
        case 404 | 410:
            return Verdict.ABSENT
        case 401 | 403 | 409 | 423:
            return Verdict.DENIED
        case 408:
            return Verdict.UNKNOWN
        case int() if status // 100 == 5:
            return Verdict.UNKNOWN
        case int() if status // 100 == 4:
            return Verdict.REJECTED
    return Verdict.FAILED


def _status(error: Mapping[str, object]) -> int | None:
    """The error's own status; it may be 0, missing, or a text."""
    status = whole_number(error.get("httpStatusCode"))
    return status if status is not None and 400 <= status <= 599 else None


def _code(error: Mapping[str, object]) -> str | None:
    code = whole_number(error.get("errorCode"))
    return str(code) if code and 0 < code < 10**9 else None


def _said(error: Mapping[str, object], sent: Collection[str]) -> str:
    """The error's message, ids left out; `details` hold traces."""
    message = error.get("message")
    if not isinstance(message, str) or not message.strip():
        return "refused without a message"
    return without_ids(message, [uri.rpartition("/")[2] for uri in sent])


def _link(holder: object, rel: str) -> str | None:
    """The address of that kind among an object's links."""
    match holder:
        case {"links": list(links)}:
            for link in links:
                match link:
                    case {"rel": str(kind), "uri": str(uri)} if kind == rel and uri:
                        return uri
                    case {"rel": str(kind), "href": str(href)} if kind == rel and href:
                        return href
    return None


def _open() -> Finding:
    return Finding(Verdict.UNKNOWN, Evidence.NONE)
