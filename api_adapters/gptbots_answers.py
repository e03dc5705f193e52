"""What the answers of GPTBots say.

Success is a 2xx and `code` 0 in the body; the status that comes with an error
is undocumented, so the code is read first. An error may also stand in
`{"error": {"code", "message"}}`, as the white label writes it, and a page of
records in `data` or bare.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api_adapters.answer import (
    LONGEST_WAIT,
    USUAL_WAIT,
    Answer,
    retry_after,
    undocumented,
    whole_number,
)
from api_adapters.base import Breach, Evidence, Finding, Reply, Verdict, Warned
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient

ACCEPTED = Finding(Verdict.ACCEPTED, Evidence.BATCH)
OPEN = Finding(Verdict.UNKNOWN, Evidence.NONE)


class Column(BaseModel):
    """A field of the table."""

    name: str
    #: Anything but true is no proof that it is.
    unique: object = None


class _Table(BaseModel):
    fields: list[Column]


def _text(given: object) -> object:
    """A number is written out: no id is ever reckoned with."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


class Record(BaseModel):
    """One row; `id` is its record id, a column of that name stands in `value`."""

    id: Annotated[str, BeforeValidator(_text), Field(min_length=1)]
    value: dict[str, Any] | None = None

    def is_like(self, column: str, wanted: str | int) -> bool:
        """Whether the column holds the value; true where it is not shown."""
        held = (self.value or {}).get(column, wanted)
        return isinstance(held, str | int | float) and str(held) == str(wanted)


class Page(BaseModel):
    """One page of records."""

    model_config = ConfigDict(strict=True)

    table_info: _Table
    records: list[Record]
    total_count: Annotated[int, BeforeValidator(whole_number), Field(ge=0)]

    def is_unique(self, column: str) -> bool:
        """Whether the table promises that no value stands in that column twice."""
        return any(one.name == column and one.unique is True for one in self.table_info.fields)

    def check_filter(self, columns: Mapping[str, str | int]) -> None:
        """Refuse records that the filter cannot have let through.

        Raises:
            Hopeless: what it excludes would be deleted as well.
        """
        pairs = columns.items()
        if not all(record.is_like(*pair) for record in self.records for pair in pairs):
            raise Hopeless(
                "the read call lists records that the filter excludes: give record ids instead",
                may_have_run=False,
            )


def read_answer(answer: Answer, sent: Mapping[str, str]) -> Reply:
    """What the answer to a deletion says of each key; record ids by key were sent.

    Raises:
        Transient, Refused, Hopeless: nothing was taken, or nobody knows.
    """
    if not _is_success(answer):
        raise failure(answer)
    said: dict[str, Finding] = {}
    strangers = 0
    keys_by_id: dict[object, list[str]] = {}
    for key, record_id in sent.items():
        keys_by_id.setdefault(record_id, []).append(key)
    for row in _rows(answer.document):
        ident = _text(row["record_id"])
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


def read_page(answer: Answer) -> Page:
    """The records in an answer of the read call, bare or wrapped.

    Raises:
        Transient, Refused, Hopeless: there are none.
    """
    match answer.document:
        case {"data": dict(inner), "code": _} if _is_success(answer):
            found: object = inner
        case {"records": _, **rest} if answer.status // 100 == 2 and _is_bare(rest):
            found = answer.document
        case _:
            raise failure(answer)
    try:
        return Page.model_validate(found)
    except ValidationError:
        raise failure(answer) from None


def is_logged_out(answer: Answer) -> bool:
    """Whether the key is refused."""
    return answer.status == 401 or _code(answer) == 40127


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
    if code == 40008 or answer.status == 429:
        return Transient(
            f"{answer.place}: too many requests",
            wait=_told_wait(answer.headers),
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
        case 40000 | 50000:
            kind = Refused if code == 40000 else Transient
            what = "invalid parameters" if code == 40000 else "internal error"
            return kind(f"{said}, {what}", may_have_run=ran, code=text)
        case 0 if answer.status // 100 != 2:
            message = f"{said} beside HTTP {answer.status}"
            return Transient(message, may_have_run=ran, code=str(answer.status))
        case int() if code and answer.status // 100 == 2:
            message = f"{said}, which the vendor does not document"
            return Transient(message, may_have_run=ran, code=text[:40])
    return undocumented(answer, change="base_url")


def _is_success(answer: Answer) -> bool:
    return answer.status // 100 == 2 and _code(answer) == 0


def _is_bare(rest: Mapping[Any, object]) -> bool:
    """Whether nothing beside the records speaks of a failure."""
    return rest.get("error") is None and whole_number(rest.get("code", 0)) == 0


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
        case (True, _) | (_, 0 | 40008 | 50000):
            return OPEN
        case _, 40000:
            return Finding(Verdict.REJECTED, code="40000")
        case _, 403131:
            return Finding(Verdict.DENIED, code="403131")
        case (False, _) | (_, int()):
            return Finding(Verdict.FAILED, code=None if code is None else str(code)[:40])
    return OPEN


def _told_wait(headers: Mapping[str, str]) -> timedelta:
    """How long to wait: Retry-After, else what the white label's own header says."""
    now = datetime.now(UTC)
    told = retry_after(headers, now=now)
    if told is not None:
        return told
    reset = whole_number(headers.get("x-ratelimit-reset", "").strip())
    if reset is None:
        return USUAL_WAIT
    # Undocumented: seconds left, or a moment in seconds or milliseconds.
    if reset >= 10**12:
        reset //= 1000
    left = reset - now.timestamp() if reset >= 10**9 else reset
    return min(max(timedelta(seconds=min(left, 10**6)), timedelta(0)), LONGEST_WAIT)
