"""BAS-IP Camdroid indoor monitors: contacts, deleted by `link_id`.

request     DELETE {base_url}/contacts/link  {"link_ids": [uuid, ...]}
            (the vendor's page omits method and path; its sibling calls with
            the same body are DELETE on Camdroid and POST on Android panels,
            so both are settings)
answer      {"result": [{"link_id", "success", "extended_info"}, ...]}
proves      every item by name
batch       no documented cap; 100 here, as the device is small
pace        one request at a time; each monitor is a target of its own
missing id  success false, "entity_not_found"
repeat      safe: deleting again answers "entity_not_found"
probe       none that shows a link_id; deleting again is the way to look
login       GET {base_url}/login, the password as its md5; a token lives two
            hours and cannot be refreshed
source      the vendor's page "Delete Contacts by theirs uids"; the login as
            three independent clients do it
check       GET .../api/info and a login; it cannot show the right to delete,
            nor that delete_method and delete_path fit the firmware
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from typing_extensions import TypedDict

from api_adapters.answer import Answer, trim, undocumented
from api_adapters.base import (
    Adapter,
    Breach,
    Checked,
    Deadline,
    Evidence,
    Finding,
    Item,
    Limits,
    Pace,
    Reply,
    Verdict,
    Warned,
)
from api_adapters.errors import BadItem, CallFailed, Hopeless, Refused, Transient
from api_adapters.http import Http
from api_adapters.request import Link, Request, as_json
from api_adapters.settings import AccountName, HttpSettings, Secret, account_name
from api_adapters.token import SharedToken

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_BASE = "base_url, which ends in /api/v1"


class BasIpSettings(HttpSettings):
    """`base_url` ends in /api/v1; a login, or a token from elsewhere."""

    username: AccountName | None = None
    password: Secret | None = None
    token: Secret | None = None
    delete_method: Literal["DELETE", "POST"] = "DELETE"
    delete_path: str = Field(default="/contacts/link", pattern=r"^(/[A-Za-z0-9_.~-]+)+$")

    @model_validator(mode="after")
    def _one_way_in(self) -> "BasIpSettings":
        given = (self.username is not None, self.password is not None, self.token is not None)
        if given not in {(True, True, False), (False, False, True)}:
            raise ValueError("expected username and password, or token alone")
        return self


class BasIp(Adapter):
    """Deletes contacts of one monitor."""

    Settings = BasIpSettings
    limits = Limits(max_items_per_call=100, max_in_flight=1)
    identity: ClassVar[tuple[str, ...]] = ("base_url", "delete_method", "delete_path")

    def __init__(self, settings: BasIpSettings, *, pace: Pace) -> None:
        self._settings = settings
        connections = settings.max_in_flight or self.limits.max_in_flight
        self._http = Http(settings, pace=pace, max_connections=connections)
        self._token = SharedToken(self._log_in)

    def key(self, item: Item) -> str:
        """The UUID in lower case, as it is sent.

        Only the hyphenated form is taken: the vendor documents no other, and
        braces, `urn:uuid:` or bare digits would reach the monitor as an id it
        does not know, and come back as absent.
        """
        if not (isinstance(item, str) and _UUID.fullmatch(item)):
            raise BadItem("expected a link_id such as 91c615e3-1040-4815-8ecb-039a18b756b5")
        return item.lower()

    def keys(self, items: Sequence[Item]) -> list[str]:
        """All at once where each is an id of the usual form; else one by one."""
        if not items or set(map(type, items)) != {str}:
            return super().keys(items)
        lines = "\n".join(cast("Sequence[str]", items))
        if not _are_uuids(lines, count=len(items)):
            return super().keys(items)
        return lines.lower().split("\n")

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        # What an empty list means is documented nowhere, and could be "all".
        if not items:
            return Reply()

        def send(token: str) -> Answer:
            return self._send(items, token, until)

        answer = self._token.spend(send, is_refused=_is_logged_out, until=until)
        return read_answer(answer, items)

    def check(self, *, until: Deadline) -> Checked:
        answer = self._http.look(Request("GET", self._info(), "info"), until=until)
        if answer.status != 200 or not isinstance(answer.document, dict):
            raise undocumented(answer, change=_BASE)
        self._log_in(until)
        has_login = self._settings.token is None
        return Checked(
            shown="the monitor answers" + (" and takes the login" if has_login else ""),
            not_shown="the right to delete, and whether delete_method and delete_path fit"
            + ("" if has_login else ", and whether the token is taken"),
        )

    def close(self) -> None:
        self._http.close()

    def _send(self, items: Collection[str], token: str, until: Deadline) -> Answer:
        request = Request(
            self._settings.delete_method,
            self._settings.delete_path,
            "delete contacts",
            headers={"authorization": f"Bearer {token}"},
            content=as_json({"link_ids": list(items)}),
        )
        return self._http.send(request, until=until)

    def _log_in(self, until: Deadline) -> str:
        if self._settings.token is not None:
            return self._settings.token.reveal()
        answer = self._http.look(self._login(), until=until)
        match answer.status, answer.document:
            case 200, {"token": str(token)} if token:
                return token
        # Never `Refused`: nothing of it lies in the items.
        if _is_logged_out(answer) or _error(answer) == "not_valid" or answer.status in {400, 403}:
            raise Hopeless(
                f"{answer.place}: the login is refused; change username or password",
                may_have_run=False,
                code=str(answer.status),
                closes_target=True,
            )
        # Nor is its text told: the address it answers holds the password's md5.
        raise _failure(answer, "the login fails", change=_BASE)

    def _login(self) -> Request:
        password = self._settings.password.reveal() if self._settings.password else ""
        digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
        query = {"username": account_name(self._settings.username), "password": digest}
        return Request("GET", "/login", "log in", query=query)

    def _info(self) -> Link:
        # It lies beside /api/v1, not below it.
        return self._http.link(self._settings.base_url.removesuffix("/v1") + "/info")


def _are_uuids(lines: str, *, count: int) -> bool:
    """Whether these are so many lines, and each is an id.

    In one pass a place, which takes a tenth of a match a line.
    """
    if not lines.isascii() or len(lines) != 37 * count - 1 or lines.count("\n") != count - 1:
        return False
    has_dashes = all(lines[place::37] == "-" * count for place in (8, 13, 18, 23))
    digits = lines.encode("ascii").translate(None, b"0123456789abcdefABCDEF")
    return has_dashes and lines[36::37] == "\n" * (count - 1) and len(digits) == 5 * count - 1


def read_answer(answer: Answer, sent: Collection[str]) -> Reply:
    """What the answer to a deletion says of each key that it names.

    Raises:
        Transient, Refused, Hopeless: it says nothing of any.
    """
    if _is_logged_out(answer):
        raise Hopeless(
            f"{answer.place}: refused right after a login; change username, password or token",
            may_have_run=False,
            code=str(answer.status),
            closes_target=True,
        )
    document = answer.document
    if answer.status == 429 or answer.status // 100 == 3:
        raise undocumented(answer, change="base_url")
    match document:
        case {"result": list(rows)}:
            return _read_alike(rows, sent) or _read_rows(_parse(rows), sent)
    raise _failure(answer, _explain(answer), change="delete_method or delete_path")


class _Row(TypedDict, total=False):
    """What one row says of one item; a dict, as there may be millions of them."""

    link_id: str | None
    success: bool | None
    extended_info: str | None


_ROWS = TypeAdapter(list[_Row], config=ConfigDict(strict=True))


def _parse(rows: list[object]) -> list[_Row]:
    try:
        return _ROWS.validate_python(rows)
    except ValidationError:
        return [_parse_loosely(row) for row in rows]


def _parse_loosely(row: object) -> _Row:
    """A field of another type than documented says nothing; the others do."""
    match row:
        case {"link_id": str(link_id), **rest}:
            success, info = rest.get("success"), rest.get("extended_info")
            return {
                "link_id": link_id,
                "success": success if isinstance(success, bool) else None,
                "extended_info": info if isinstance(info, str) else None,
            }
    return {}


def _read_alike(rows: Sequence[Any], sent: Collection[str]) -> Reply | None:
    """What most answers say: the same of every key, each named once; None for any other."""
    try:
        keys = {row["link_id"].lower() for row in rows}
        (said,) = {(row["success"], row["extended_info"]) for row in rows}
        is_boolean = {type(row["success"]) for row in rows} == {bool}
    # A row is no object, lacks a field, or says something else than another.
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    if not is_boolean or len(keys) != len(rows) or not keys.issubset(sent):
        return None
    finding, breach = _judge(said) if isinstance(said[1], str) else (None, None)
    return None if finding is None or breach else Reply(dict.fromkeys(keys, finding))


def _read_rows(rows: Collection[_Row], sent: Collection[str]) -> Reply:
    findings: dict[str, Finding] = {}
    breaches: Counter[tuple[Breach, str]] = Counter()
    for row in rows:
        key = (row.get("link_id") or "").lower()
        if key not in sent:
            breaches[Breach.STRANGER, "a row names an item that was not asked for"] += 1
            continue
        finding, breach = _judge((row.get("success"), row.get("extended_info")))
        if breach is not None:
            breaches[breach] += 1
        earlier = findings.setdefault(key, finding)
        if earlier is not finding and earlier.verdict != finding.verdict:
            findings[key] = _OPEN
            breaches[Breach.CONTRADICTION, "rows of one item differ"] += 1
    warnings = [Warned(kind, f"{text} ({times}x)") for (kind, text), times in breaches.items()]
    return Reply(findings=findings, warnings=tuple(warnings))


_OPEN = Finding(Verdict.UNKNOWN, Evidence.NONE)
_DELETED = Finding(Verdict.DELETED)
_ABSENT = Finding(Verdict.ABSENT)


@lru_cache(maxsize=256)
def _judge(flags: tuple[bool | None, str | None]) -> tuple[Finding, tuple[Breach, str] | None]:
    """The table of verdicts, most special first."""
    info = _word(flags[1])
    said = f"success {flags[0]} beside extended_info {info}"
    match flags:
        case None, _:
            return _OPEN, (Breach.UNHEARD, "success is missing or no boolean")
        # The page's example of `created` was made by a generator.
        case (_, "created" | "updated") | (False, "deleted"):
            return _OPEN, (Breach.CONTRADICTION, said)
        case True, "deleted":
            return _DELETED, None
        case True, "entity_not_found" | "not_found":
            return _ABSENT, (Breach.CONTRADICTION, said)
        case True, _:
            return _DELETED, (Breach.UNHEARD, said)
        case False, "entity_not_found" | "not_found":
            return _ABSENT, None
        case False, "invalid_entity_data" | "not_valid":
            return Finding(Verdict.REJECTED, code=info), None
    return Finding(Verdict.FAILED, code=info), None


def _word(info: str | None) -> str | None:
    """The vendor's word, if it is one: a longer text might quote the item."""
    return info if info and re.fullmatch(r"[A-Za-z_]{1,40}", info) else None


def _is_logged_out(answer: Answer) -> bool:
    # The status first: the page's schema example of 401 shows "not_valid".
    return answer.status == 401 or _error(answer) in {
        "invalid_authentication",
        "invalid_authentification",
        "Log In",
    }


def _failure(answer: Answer, what: str, *, change: str) -> CallFailed:
    code, said = _error(answer), f"{answer.place}: {what}"
    ran = answer.may_have_run
    match code:
        case "permission_denied":
            return Hopeless(f"{said}; give the account the right", may_have_run=False, code=code)
        case "not_valid":
            return Refused(said, may_have_run=ran, code=code)
        case "system_error":
            return Transient(said, wait=answer.wait, may_have_run=ran, code=code)
        case str() if answer.status == 400:
            return Refused(said, may_have_run=ran, code=_word(code) or "400")
    return undocumented(answer, change=change)


def _error(answer: Answer) -> str | None:
    """The error's code; other products of the vendor answer a bare text."""
    match answer.document:
        case {"error": {"code": str(code)}} | {"error": str(code)}:
            return code
    return None


def _explain(answer: Answer) -> str:
    """The error in one line; ids in it are the caller's data and left out."""
    match answer.document:
        case {"error": {"message": str(message), "data": dict(data)}}:
            text = f"{message} {data}"
        case {"error": {"message": str(text)}} | {"error": str(text)}:
            pass
        case _:
            text = "refused without a message"
    return trim(_UUID.sub("<id>", text[:10_000]))
