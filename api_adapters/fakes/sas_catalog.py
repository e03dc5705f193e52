"""A practice catalog of SAS Viya: deletes objects as the vendor's page documents.

It answers 200 where at least one object was deleted or none was asked for, and
the same map with the common status, or 400, where all failed. Objects in
`kept` are locked. Searching knows eq, contains, startsWith, and, or and not.
"""

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote

from api_adapters.fakes.base import Asked, Practice, Said, practice_ids
from api_adapters.fakes.faults import Fault

CLIENT_ID = "practice-client"
CLIENT_SECRET = "practice-secret"  # noqa: S105 - opens a practice server alone
USERNAME = "admin"
PASSWORD = "practice"  # noqa: S105 - opens a practice server alone

_MEDIA_TYPES = {"application/vnd.sas.selection+json", "application/json"}
_STRANGER = "/catalog/instances/00000000-0000-4000-8000-000000000000"
_DELETABLE = re.compile(r"/catalog/(instances|bots|locks)/[^/]+")
_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|[A-Za-z]+|[(),])")

Map = dict[str, dict[str, Any]]


class Backend(Practice):
    """One catalog."""

    impossible: ClassVar[frozenset[Fault]] = frozenset({Fault.MISCOUNTED, Fault.BUSY_CODE})

    def __init__(self, items: Iterable[str] = (), *, seed: int = 0, misbehave: str = "") -> None:
        super().__init__(items, seed=seed, misbehave=misbehave)
        #: How long a token lives, as it is told.
        self.expires_in: float = 3599
        #: These are locked.
        self.kept: set[str] = set()
        self._tokens: set[str] = set()

    @classmethod
    def ids(cls, count: int, *, seed: int = 0) -> list[str]:
        """URIs; every fourth object is an agent."""
        return [
            f"/catalog/{'bots' if number % 4 == 3 else 'instances'}/{ident}"
            for number, ident in enumerate(practice_ids(count, seed=seed))
        ]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"oauth": {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}}

    def is_deletion(self, asked: Asked) -> bool:
        return (asked.method, asked.path) == ("POST", "/catalog/deletions")

    def expire(self) -> None:
        self._tokens.clear()

    def attend(self, asked: Asked) -> Said:
        if (asked.method, asked.path) == ("POST", "/SASLogon/oauth/token"):
            return self._log_in(asked)
        if asked.method not in {"GET", "HEAD"} or not asked.path.startswith("/catalog/"):
            return Said(404, b"Not Found", {"Content-Type": "text/plain"})
        said = self._look(asked)
        return said if asked.method == "GET" else Said(said.status)

    def delete(self, asked: Asked, fault: Fault | None) -> Said:
        if not self._is_let_in(asked):
            return _refuse(401, "the token is not valid")
        if asked.headers.get("Content-Type") not in _MEDIA_TYPES:
            return _refuse(415, "include a Content-Type header with a supported value")
        resources = _read(asked.body)
        if resources is None or not self.poison.isdisjoint(resources.values()):
            return _refuse(400, "the request is not well-formed")
        told = {name: self._delete_one(uri) for name, uri in resources.items()}
        statuses = {error.get("httpStatusCode", 200) for error in told.values()}
        status = 200
        if told and 200 not in statuses:
            status = statuses.pop() if len(statuses) == 1 else 400
        return _say(status, _spoil(told, fault))

    def _delete_one(self, uri: str) -> dict[str, Any]:
        if not _DELETABLE.fullmatch(uri):
            return _error(400, "this kind of resource cannot be deleted")
        if uri in self.kept and uri in self.remaining:
            self.asked[uri] += 1
            return _error(423, f"the object {uri} is locked")
        return {} if self.take([uri]) else _error(404, "the object was not found")

    def _is_let_in(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization", "").removeprefix("Bearer ") in self._tokens

    def _log_in(self, asked: Asked) -> Said:
        shown = asked.headers.get("Authorization", "").removeprefix("Basic ")
        if b64decode(shown).decode() != f"{CLIENT_ID}:{CLIENT_SECRET}":
            return _say(401, {"error": "unauthorized", "error_description": "Bad credentials"})
        form = dict(parse_qsl(asked.body.decode()))
        user = {"username": USERNAME, "password": PASSWORD}
        if form not in ({"grant_type": "client_credentials"}, {"grant_type": "password", **user}):
            return _say(400, {"error": "invalid_grant"})
        self.logins += 1
        token = f"practice-token-{self.seed}-{self.logins}"
        self._tokens.add(token)
        answer = {"access_token": token, "expires_in": self.expires_in, "token_type": "bearer"}
        return _say(200, answer)

    def _look(self, asked: Asked) -> Said:
        if not self._is_let_in(asked):
            return _refuse(401, "the token is not valid")
        match asked.path:
            case "/catalog/":
                return _say(200, {"version": 1, "links": []})
            case "/catalog/instances" | "/catalog/bots":
                return self._list(asked.path, asked.query)
            case uri if uri in self.remaining:
                return _say(200, _shown(uri))
        return _refuse(404, "the object was not found")

    def _list(self, path: str, query: Mapping[str, str]) -> Said:
        try:
            asked = _parse(query["filter"]) if "filter" in query else ("and",)
            uris = [uri for uri in self.remaining if uri.startswith(f"{path}/")]
            found = sorted(uri for uri in uris if _matches(asked, _shown(uri)))
        except (ValueError, KeyError, TypeError, IndexError):
            return _refuse(400, "the filter cannot be read")
        start, limit = int(query.get("start", 0)), int(query.get("limit", 10))
        links = []
        if start + limit < len(found):
            more = f"filter={quote(query.get('filter', ''))}&start={start + limit}&limit={limit}"
            links.append({"rel": "next", "method": "GET", "uri": f"{path}?{more}"})
        items = [_shown(uri) for uri in found[start : start + limit]]
        paging = {"count": len(found), "start": start, "limit": limit}
        return _say(200, {**paging, "items": items, "links": links})


def type_of(uri: str) -> str:
    """The type of the object with that URI."""
    return "sasReport" if sum(uri.encode()) % 3 == 0 else "casTable"


def _shown(uri: str) -> dict[str, Any]:
    ident = uri.rpartition("/")[2]
    links = [{"rel": "up", "uri": "/catalog"}, {"rel": "self", "method": "GET", "uri": uri}]
    return {"id": ident, "name": f"Object {ident}", "type": type_of(uri), "links": links}


def _read(body: bytes) -> dict[str, str] | None:
    """The URI of each value of `resources`; None where the request is malformed."""
    try:
        given = json.loads(body)
        resources, template = list(given["resources"]), given.get("template", "{id}")
        kind = given.get("type", "uri")
        if given["version"] != 1 or kind not in {"id", "uri", "mixed"}:
            return None
        is_id = {name: kind == "id" or not name.startswith("/") for name in resources}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return {name: template.replace("{id}", name) if is_id[name] else name for name in resources}


def _parse(text: str) -> tuple[Any, ...]:
    """A filter as nested tuples: and(eq(type,'x')) is ("and", ("eq", "type", "'x'"))."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s(?=(?:[^']*'[^']*')*[^']*$)", "", text):
        raise ValueError("a character that stands in no filter")
    parsed, rest = _parse_one(tokens)
    if rest or not isinstance(parsed, tuple):
        raise ValueError("expected one comparison")
    return parsed


def _parse_one(tokens: list[str]) -> tuple[Any, list[str]]:
    name, rest = tokens[0], tokens[1:]
    if not rest or rest[0] != "(":
        return name, rest
    parts: list[Any] = [name]
    while rest[0] != ")":
        part, rest = _parse_one(rest[1:])
        parts.append(part)
    return tuple(parts), rest[1:]


def _matches(asked: tuple[Any, ...], shown: Mapping[str, Any]) -> bool:
    name, *parts = asked
    match name:
        case "and":
            return all(_matches(part, shown) for part in parts)
        case "or":
            return any(_matches(part, shown) for part in parts)
        case "not":
            return not _matches(parts[0], shown)
    field, value = shown[parts[0]], parts[1].strip("'")
    tests = {
        "eq": field == value,
        "contains": value in field,
        "startsWith": field.startswith(value),
    }
    return bool(tests[name])


def _spoil(told: Map, fault: Fault | None) -> Map:
    """Let a fault into the first resource, into all errors, or into the order of all."""
    if not told:
        return told
    first = next(iter(told))
    rest = {name: error for name, error in told.items() if name != first}
    match fault:
        case Fault.OMITTED:
            return rest
        case Fault.STRANGER:
            return {_STRANGER: told[first], **rest}
        case Fault.SHUFFLED:
            return {_recased(name): told[name] for name in reversed(told)}
        case Fault.CONTRADICTED:
            return {first: _error(200, "deleted"), **rest}
        case Fault.AS_TEXT:
            return {name: _as_text(error) for name, error in told.items()}
        case Fault.UNNUMBERED:
            return {
                name: _unnumbered(error, place) for place, (name, error) in enumerate(told.items())
            }
    return told


def _recased(uri: str) -> str:
    head, slash, ident = uri.rpartition("/")
    return head + slash + ident.upper()


def _as_text(error: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, int) else value for name, value in error.items()}


def _unnumbered(error: dict[str, Any], place: int) -> dict[str, Any]:
    left = {name: value for name, value in error.items() if name != "httpStatusCode"}
    return {**left, "httpStatusCode": 0} if left and place % 2 else left


def _error(status: int, message: str) -> dict[str, Any]:
    return {
        "version": 2,
        "httpStatusCode": status,
        "errorCode": 12345,
        "message": message,
        "details": ["traceId: 0", "path: /catalog/deletions"],
        "remediation": None,
        "links": [],
    }


def _refuse(status: int, message: str) -> Said:
    return _say(status, _error(status, message))


def _say(status: int, document: object) -> Said:
    return Said(status, json.dumps(document).encode())
