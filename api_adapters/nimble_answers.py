"""What Nimble answers, and what each answer means; see `nimble` for the calls."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from api_adapters.answer import Answer, undocumented, whole_number, without_ids
from api_adapters.base import Breach, Evidence, Finding, Presence, Reply, Verdict, Warned
from api_adapters.errors import BadQuery, CallFailed, Hopeless, Refused, Transient

SINGULAR, PLURAL = "/api/v1/contact/{ids}", "/api/v1/contacts/{ids}"
_NOT_LET_IN = "can't authenticate request"

_DELETED = Finding(Verdict.DELETED)
_SEEN_GONE = Finding(Verdict.DELETED, Evidence.PROBE)
_ABSENT = Finding(Verdict.ABSENT)
_NOT_SEEN = Finding(Verdict.ABSENT, Evidence.PROBE)
_STILL_THERE = Finding(
    Verdict.DENIED, Evidence.PROBE, "still_there", "still there after an answer that is no error"
)
_OPEN = Finding(Verdict.UNKNOWN, Evidence.NONE)


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer settles, and what a look has to settle.

    `there` is what an id is called that is seen to be there still; with none
    the call did nothing for it, and it is to be sent again.
    """

    reply: Reply
    to_look_at: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    there: Finding | None = field(default=_STILL_THERE)

    def gone(self, key: str) -> Finding:
        """What an id is called that is seen to be gone."""
        return _SEEN_GONE if key in self.named else _NOT_SEEN


def is_logged_out(answer: Answer) -> bool:
    """Whether the token was not taken; the vendor says it with 401 or 403."""
    if answer.status == 401:
        return True
    message = _message(answer) or ""
    return answer.status == 403 and message.replace("\u2019", "'").lower().startswith(_NOT_LET_IN)


def read_answer(answer: Answer, sent: Collection[str]) -> Told:
    """What the answer to a deletion says.

    Raises:
        Transient, Refused, Hopeless: it says nothing of any id.
    """
    if answer.status == 429 or answer.status // 100 == 3 or is_logged_out(answer):
        raise _failure(answer, sent)
    is_success = answer.status // 100 == 2 and _code(answer) is None
    match answer.document:
        case {"data": {"ids": list(ids)}, "status": "ok"} if is_success:
            return _read_ids(ids, sent, is_ok=True)
        case {"data": {"ids": list(ids)}} if is_success:
            return _read_ids(ids, sent, is_ok=False)
        case {"data": {"ids": list(ids)}}:
            return _read_ids_of_an_error(ids, sent, _failure(answer, sent))
        # The current specification has no schema for what tells of success.
        case dict() if is_success:
            return Told(Reply(), frozenset(sent))
        case {"object_type": str(), **rest} if answer.status == 404:
            return _read_missing(rest.get("object_id"), sent)
        case {"errors": list()} if answer.status == 406 and len(sent) == 1:
            return Told(Reply(dict.fromkeys(sent, _preflight(answer, sent))))
    if is_success and not answer.body.strip():
        return Told(Reply(), frozenset(sent))
    raise _failure(answer, sent)


def read_probe(answer: Answer, asked: Collection[str]) -> Mapping[str, Presence]:
    """Which ids are there; those that the answer leaves open are left out.

    Raises:
        Transient, Refused, Hopeless: it tells of none.
    """
    match answer.status, answer.document:
        case 200, {"resources": list(rows), **rest}:
            ids = {_ident(row.get("id") if isinstance(row, dict) else row) for row in rows}
            there = {ident: Presence.THERE for ident in ids & set(asked) if ident}
            # A stranger, or a page of several: this is no list of the ids asked for.
            if ids <= set(asked) and _is_whole(rest.get("meta"), len(rows)):
                return dict.fromkeys(asked, Presence.GONE) | there
            return there
        case 404, {"object_type": str(), "object_id": ident} if _ident(ident) in asked:
            return {_ident(ident) or "": Presence.GONE}
    if answer.status in {404, 405}:
        raise undocumented(answer, change="base_url or probe")
    raise _failure(answer, asked)


def read_page(answer: Answer, *, page: int) -> tuple[list[str], int]:
    """The ids of one page, and how many pages there are.

    Raises:
        BadQuery: the vendor does not take the query.
        Transient, Refused, Hopeless: it is no such page.
    """
    match answer.status, answer.document:
        case 200, {"meta": {"page": shown, "pages": last}, "resources": list(rows)}:
            pages, ids = whole_number(last), [_ident(row) for row in rows]
            is_asked_for = whole_number(shown) == page and None not in ids
            if is_asked_for and pages is not None and (rows or page >= pages):
                return [ident for ident in ids if ident], pages
    if answer.status == 409 and _message(answer):
        raise BadQuery(f"the backend does not take the query: {without_ids(_said(answer), ())}")
    if answer.status in {404, 405}:
        raise undocumented(answer, change="base_url")
    raise _failure(answer, ())


def _read_ids(rows: list[object], sent: Collection[str], *, is_ok: bool) -> Told:
    ids = {_ident(row) for row in rows}
    named = frozenset(key for key in sent if key in ids)
    warnings = []
    if strangers := len(ids) - len(named):
        text = f"data.ids names what was not asked for ({strangers}x)"
        warnings.append(Warned(Breach.STRANGER, text))
    if named and not is_ok:
        warnings.append(Warned(Breach.CONTRADICTION, "data.ids without status ok"))
    # After a stranger nothing is certain of what is not named.
    unnamed = frozenset() if strangers else frozenset(sent) - named
    if is_ok:
        findings = dict.fromkeys(named, _DELETED)
        return Told(Reply(findings, warnings=tuple(warnings)), unnamed)
    return Told(Reply(warnings=tuple(warnings)), unnamed | named, named)


def _read_ids_of_an_error(rows: list[object], sent: Collection[str], error: CallFailed) -> Told:
    """Ids beside an error: those are looked at, and for the others the error holds."""
    told = _read_ids(rows, sent, is_ok=False)
    error.may_have_run = True
    return replace(told, reply=replace(told.reply, error=error), to_look_at=told.named, there=_OPEN)


def _read_missing(given: object, sent: Collection[str]) -> Told:
    """404 names one id; of the others nobody knows whether they were looked at."""
    ident = _ident(given)
    if ident is None or ident not in sent:
        text = "404 names no contact that was asked for"
        return Told(Reply(warnings=(Warned(Breach.STRANGER, text),)))
    others = frozenset(sent) - {ident}
    return Told(Reply({ident: _ABSENT}), others, there=None)


def _preflight(answer: Answer, sent: Collection[str]) -> Finding:
    text = without_ids(_said(answer), sent)
    return Finding(Verdict.DENIED, code="406", message=text)


def _failure(answer: Answer, sent: Collection[str]) -> CallFailed:
    """The vendor's table of errors, most special first."""
    said = f"{answer.place}: {without_ids(_said(answer), sent)}"
    ran, code = answer.may_have_run, _code(answer)
    if is_logged_out(answer):
        return Hopeless(
            f"{answer.place}: refused right after a login; change token or oauth",
            may_have_run=False,
            code=str(answer.status),
            closes_target=True,
        )
    if answer.status == 429 or answer.status // 100 == 3:
        return undocumented(answer, change="base_url")
    match answer.status, code:
        # A preflight is before any work; alone, the id is told as denied.
        case 406, _ if _message(answer):
            return Refused(said, may_have_run=False, code="406")
        case (402, _) | (_, "108"):
            return Hopeless(f"{said}; the account's quota is used up", may_have_run=ran, code="108")
        case (_, "245"):
            return Refused(said, may_have_run=ran, code=code)
        case (_, "107"):
            return Transient(said, wait=answer.wait, may_have_run=ran, code=code)
        case 409, _ if isinstance(answer.document, dict):
            return Refused(said, may_have_run=ran, code=code or "409")
    return undocumented(
        answer, change=f"delete_path: some accounts take {SINGULAR}, others {PLURAL}"
    )


def _code(answer: Answer) -> str | None:
    """The vendor's own code, which may come as text."""
    document = answer.document
    code = whole_number(document.get("code")) if isinstance(document, dict) else None
    return str(code) if code in {107, 108, 245} else None


def _message(answer: Answer) -> str | None:
    match answer.document:
        case {"message": str(message)}:
            return message
        case {"errors": [{"message": str(message)}, *_]}:
            return message
        case {"errors": list()}:
            return "refused without a message"
    return None


def _said(answer: Answer) -> str:
    return _message(answer) or "refused without a message"


def _ident(given: object) -> str | None:
    """An id as it is compared; the vendor's page shows digits, as texts."""
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 10**64:
        return str(given)
    return given if isinstance(given, str) and given else None


def _is_whole(meta: object, rows: int) -> bool:
    """Whether an answer that may be paged holds all that it tells of."""
    if not isinstance(meta, dict):
        return True
    pages, total = whole_number(meta.get("pages")), whole_number(meta.get("total"))
    return (pages or 0) <= 1 and (total or 0) <= rows
