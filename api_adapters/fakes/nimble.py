"""A practice account of Nimble: deletes contacts as the vendor documents.

It serves the singular and the plural path, the look-ups that the vendor has
(the ids of a search, and contacts by at most 30 ids) and no others. Like the
real thing it has a deletion by query that ignores what it does not know, so
that nobody calls it unnoticed.

A contact's fields are made of its id: `name` is "Contact {id}", every third is
a company. Contacts in `kept` stay, without a word.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from api_adapters.fakes.base import Asked, Practice, Said, practice_ids
from api_adapters.fakes.faults import Fault

CLIENT_ID = "practice-application"
CLIENT_SECRET = "practice-secret"  # noqa: S105 - opens a practice server alone
REFRESH_TOKEN = "practice-consent"  # noqa: S105 - opens a practice server alone
MOST_IDS = 30

_DELETION = re.compile(r"/api/v1/contacts?/([^/]+)")
_STRANGER = "0" * 24


class Backend(Practice):
    """One account."""

    impossible: ClassVar[frozenset[Fault]] = frozenset(
        {Fault.MISCOUNTED, Fault.UNNUMBERED, Fault.AS_TEXT, Fault.BUSY_CODE}
    )

    def __init__(self, items: Iterable[str] = (), *, seed: int = 0, misbehave: str = "") -> None:
        super().__init__(items, seed=seed, misbehave=misbehave)
        #: How long a token lives, as it is told.
        self.expires_in: float = 599
        #: These are not deleted, and not named.
        self.kept: set[str] = set()
        #: Whether one missing contact refuses the whole call.
        self.refuses_missing = False
        #: Whether each login withdraws the refresh token, and gives another.
        self.renews_consent = False
        self._consent = REFRESH_TOKEN
        self._tokens: set[str] = set()

    @classmethod
    def ids(cls, count: int, *, seed: int = 0) -> list[str]:
        return [ident.replace("-", "")[:24] for ident in practice_ids(count, seed=seed)]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "oauth": {
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "refresh_token": REFRESH_TOKEN,
            }
        }

    def is_deletion(self, asked: Asked) -> bool:
        return asked.method == "DELETE" and _DELETION.fullmatch(asked.path) is not None

    def expire(self) -> None:
        self._tokens.clear()

    def attend(self, asked: Asked) -> Said:
        if (asked.method, asked.path) == ("POST", "/api/oauth/token"):
            return self._log_in(asked)
        if asked.method != "GET" or not asked.path.startswith("/api/v1/contact"):
            return Said(404, b"Not Found", {"Content-Type": "text/plain"})
        if not self._is_let_in(asked):
            return _say(401, {"error": "invalid_token", "message": "The token has expired"})
        match asked.path.removeprefix("/api/v1/"):
            case "contacts/ids":
                return self._list(asked.query)
            case "contact":
                return self._read(asked.query.get("id", ""))
            case path if path.startswith("contact/"):
                return self._read(path.removeprefix("contact/"))
        return Said(404, b"Not Found", {"Content-Type": "text/plain"})

    def delete(self, asked: Asked, fault: Fault | None) -> Said:
        if not self._is_let_in(asked):
            return _say(401, {"error": "invalid_token", "message": "The token has expired"})
        if asked.path == "/api/v1/contacts/list":
            return self._delete_by_query(asked.query)
        ids = asked.path.rpartition("/")[2].split(",")
        if not self.poison.isdisjoint(ids):
            return _say(409, {"message": "Validation error", "code": 245, "errors": {}})
        missing = [ident for ident in ids if ident not in self.remaining]
        if missing and (self.refuses_missing or len(ids) == 1):
            self.asked.update(ids)
            return _say(404, {"object_type": "contact", "object_id": missing[0]})
        kept = {*self.kept, *(ids[:1] if fault is Fault.CONTRADICTED else ())}
        self.asked.update(kept.intersection(ids))
        there = self.take([ident for ident in ids if ident not in kept])
        return _spoil([ident for ident in ids if ident in there], ids, fault)

    def _is_let_in(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization", "").removeprefix("Bearer ") in self._tokens

    def _log_in(self, asked: Asked) -> Said:
        form = dict(parse_qsl(asked.body.decode()))
        asked_with = {**self.settings["oauth"], "refresh_token": self._consent}
        if form != {"grant_type": "refresh_token", **asked_with}:
            return _say(400, {"error": "invalid_grant"})
        self.logins += 1
        token = f"practice-token-{self.seed}-{self.logins}"
        self._tokens.add(token)
        answer = {"access_token": token, "expires_in": self.expires_in, "token_type": "bearer"}
        if self.renews_consent:
            self._consent = answer["refresh_token"] = f"practice-consent-{self.logins}"
        return _say(200, answer)

    def _delete_by_query(self, query: Mapping[str, str]) -> Said:
        ids = sorted(filter(_matcher(query), self.remaining))
        self.take(ids)
        return _say(200, {"status": "ok", "data": {"ids": ids}})

    def _list(self, query: Mapping[str, str]) -> Said:
        if "keyword" in query and "query" in query:
            return _say(409, {"message": "keyword and query exclude each other", "code": 245})
        try:
            found = sorted(filter(_matcher(query), self.remaining))
        except (ValueError, KeyError, TypeError, AttributeError):
            return _say(409, {"message": "the query cannot be read", "code": 245})
        page, per_page = int(query.get("page", 1)), int(query.get("per_page", 30))
        pages = -(-len(found) // per_page)
        meta = {"page": page, "pages": pages, "per_page": per_page, "total": len(found)}
        start = (page - 1) * per_page
        return _say(200, {"meta": meta, "resources": found[start : start + per_page]})

    def _read(self, joined: str) -> Said:
        ids = joined.split(",")
        if len(ids) > MOST_IDS:
            return _say(409, {"message": "too many ids", "code": 245})
        there = [ident for ident in ids if ident in self.remaining]
        rows = [{"id": ident, "object_type": "contact"} for ident in there]
        meta = {"page": 1, "pages": 1, "per_page": MOST_IDS, "total": len(rows)}
        return _say(200, {"meta": meta, "resources": rows})


def name_of(ident: str) -> str:
    """The name of the contact with that id."""
    return f"Contact {ident}"


def type_of(ident: str) -> str:
    """The record type of the contact with that id."""
    return "company" if sum(ident.encode()) % 3 == 0 else "person"


def _matcher(query: Mapping[str, str]) -> Callable[[str], bool]:
    if "query" in query:
        asked = json.loads(query["query"])
        return lambda ident: _matches(asked, ident)
    keyword, wanted = query.get("keyword", "").lower(), query.get("record_type", "all")
    return lambda ident: keyword in name_of(ident).lower() and wanted in {"all", type_of(ident)}


def _matches(asked: Mapping[str, Any], ident: str) -> bool:
    ((name, value),) = asked.items()
    match name:
        case "and":
            return all(_matches(inner, ident) for inner in value)
        case "or":
            return any(_matches(inner, ident) for inner in value)
        case "not":
            return not _matches(value, ident)
    field = {"name": name_of(ident), "record type": type_of(ident)}[name]
    ((op, wanted),) = value.items()
    tests: dict[str, Callable[[], bool]] = {
        "is": lambda: field == wanted,
        "is_not": lambda: field != wanted,
        "contain": lambda: wanted in field,
        "starts_with": lambda: field.startswith(wanted),
        "in": lambda: field in wanted,
    }
    return tests[op]()


def _spoil(named: list[str], ids: list[str], fault: Fault | None) -> Said:
    """The answer, with the fault in its first id, or in the order of all."""
    status = "ok"
    match fault:
        case Fault.OMITTED:
            named = named[1:]
        case Fault.STRANGER:
            named = [_STRANGER, *named[1:]]
        case Fault.SHUFFLED:
            named = named[::-1]
        case Fault.CONTRADICTED:
            status, named = "error", [*ids[:1], *named]
    return _say(200, {"status": status, "data": {"ids": named}})


def _say(status: int, document: object) -> Said:
    return Said(status, json.dumps(document).encode())
