"""What the answers of GPTBots say.

Success is a 2xx and `code` 0 in the body; the status that comes with an error
is undocumented, so the code is read first. An error may also stand in
`{"error": {"code", "message"}}`, as the white label writes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from api_adapters.answer import USUAL_WAIT, Answer, undocumented, whole_number
from api_adapters.base import Breach, Evidence, Finding, Reply, Verdict, Warned
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient

#: The codes that are documented and speak neither of success nor of the key.
_OTHER_CODES = {40000, 40008, 50000, 403106, 403131}
#: A moment in seconds that is as far as none.
_FAR = 10**10

ACCEPTED = Finding(Verdict.ACCEPTED, Evidence.BATCH)
OPEN = Finding(Verdict.UNKNOWN, Evidence.NONE)


def read_answer(answer: Answer, sent: Mapping[str, str]) -> Reply:
    """What the answer to a deletion says of each key; record ids by key were sent.

    Raises:
        Transient, Refused, Hopeless: nothing was taken, or nobody knows.
    """
    if not is_success(answer):
        raise failure(answer)
    said: dict[str, Finding] = {}
    strangers = 0
    keys_by_id: dict[object, list[str]] = {}
    for key, record_id in sent.items():
        keys_by_id.setdefault(record_id, []).append(key)
    for row in _rows(answer.document):
        ident = written_out(row["record_id"])
        named = keys_by_id.get(ident, []) if isinstance(ident, str) else []
        strangers += not named
        for key in named:
            finding = _judge(row)
            alike = said.setdefault(key, finding).verdict is finding.verdict
            said[key] = finding if alike else OPEN
    if strangers:
        warned = Warned(Breach.STRANGER, f"a row names a record not asked for ({strangers}x)")
        return Reply(said, warnings=(warned,))
    return Reply(dict.fromkeys(sent, ACCEPTED) | said)


def written_out(given: object) -> object:
    """A number as text: no id is ever reckoned with."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def is_logged_out(answer: Answer) -> bool:
    """Whether the key is refused; a code that is none of that goes before the status."""
    code = _code(answer)
    return code == 40127 or (answer.status == 401 and code not in _OTHER_CODES)


def failure(answer: Answer) -> CallFailed:
    """The table of codes; the vendor's own words may quote an item and are left out."""
    code, ran = _code(answer), answer.may_have_run
    said, text = f"{answer.place}: code {code}", str(code)
    if is_logged_out(answer):
        return Hopeless(
            f"{answer.place}: the key is refused; change token",
            may_have_run=False,
            code="40127" if code == 40127 else str(answer.status),
            closes_target=True,
        )
    # 40008 begins with 400 and is none of the caller's faults.
    if code == 40008 or (answer.status == 429 and code != 0):
        return Transient(
            f"{answer.place}: too many requests",
            wait=_told_wait(answer),
            may_have_run=False,
            code="40008" if code == 40008 else "429",
        )
    match code:
        case 403106:
            return Hopeless(
                f"{said}, there is no such table; change table_id",
                may_have_run=False,
                code=text,
                closes_target=True,
            )
        case 403131:
            message = f"{said}, the key has no permission for the table"
            return Hopeless(message, may_have_run=False, code=text)
        case 40000:
            return Refused(f"{said}, invalid parameters", may_have_run=ran, code=text)
        case 50000:
            message = f"{said}, internal error"
            return Transient(message, wait=answer.wait, may_have_run=ran, code=text)
        # 0 without a 2xx, or another than the documented ones with it.
        case int() if (code == 0) != (answer.status // 100 == 2):
            message = f"{said} beside HTTP {answer.status}, which the vendor does not document"
            text = text[:40] if code else str(answer.status)
            return Transient(message, wait=answer.wait, may_have_run=ran, code=text)
    return undocumented(answer, change="base_url")


def is_success(answer: Answer) -> bool:
    """Whether all of it was taken; of no record is anything proven."""
    return answer.status // 100 == 2 and _code(answer) == 0


def _code(answer: Answer) -> int | None:
    match answer.document:
        case {"error": {"code": code}}:
            return whole_number(code) or None
        case {"error": error} if error is not None:
            return None
        case {"code": code}:
            return whole_number(code)
    return None


def _rows(document: object) -> Iterable[Mapping[str, Any]]:
    """Details by record, which a later version of the answer may hold."""
    places = [document]
    while places:
        match places.pop():
            case dict(row) if "record_id" in row:
                yield row
            case list(inner):
                places.extend(inner)
            case {"data": inner} | {"results": inner}:
                places.append(inner)


def _judge(row: Mapping[str, Any]) -> Finding:
    """What one row says of its record; a bare code 0 is no word of a deletion."""
    code, success = whole_number(row.get("code")), row.get("success")
    match success, code:
        case True, 0 | None:
            return Finding(Verdict.DELETED)
        case None, 0:
            return Finding(Verdict.ACCEPTED)
        # The id alone, repeated, says nothing: then code 0 stands for it as well.
        case None, None if set(row) == {"record_id"}:
            return ACCEPTED
        case (True, _) | (_, 0 | 40008 | 50000):
            return OPEN
        case _, 40000:
            return Finding(Verdict.REJECTED, code="40000")
        case _, 403131:
            return Finding(Verdict.DENIED, code="403131")
        case (False, _) | (_, int()):
            return Finding(Verdict.FAILED, code=None if code is None else str(code)[:40])
    return OPEN


def _told_wait(answer: Answer) -> timedelta:
    """How long to wait: Retry-After, else what the white label's own header says."""
    if answer.wait is not None:
        return answer.wait
    reset = whole_number(answer.headers.get("x-ratelimit-reset", "").strip())
    if reset is None:
        return USUAL_WAIT
    # Undocumented: seconds left, or a moment in seconds or milliseconds.
    moment = reset // 1000 if reset >= 10**12 else reset
    said = str(reset)
    if moment >= 10**9:
        said = format_datetime(datetime.fromtimestamp(min(moment, _FAR), UTC), usegmt=True)
    return replace(answer, headers={**answer.headers, "retry-after": said}).wait or timedelta(0)
