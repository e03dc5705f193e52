"""A practice monitor: deletes contacts as the vendor's page documents.

It has what the vendor has and no more: a login, /api/info, the deletion under
both methods that the vendor's sibling calls use, and no way to look a contact
up. Like the real call its answer to an empty list is undefined; here it
deletes everything, so that nobody sends one unnoticed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from api_adapters.fakes.base import Asked, Practice, Said
from api_adapters.fakes.faults import Fault

USERNAME = "admin"
PASSWORD = "practice"  # noqa: S105 - opens a practice server alone
_DELETIONS = {("DELETE", "/api/v1/contacts/link"), ("POST", "/api/v1/contacts/link/delete")}
_STRANGER = "00000000-0000-4000-8000-000000000000"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Row = dict[str, Any]


class Backend(Practice):
    """One monitor."""

    base_path: ClassVar[str] = "/api/v1"
    impossible: ClassVar[frozenset[Fault]] = frozenset(
        {Fault.MISCOUNTED, Fault.UNNUMBERED, Fault.AS_TEXT, Fault.BUSY_CODE}
    )

    def __init__(self, items: Iterable[str] = (), *, seed: int = 0, misbehave: str = "") -> None:
        super().__init__(items, seed=seed, misbehave=misbehave)
        self._tokens: set[str] = set()
        digest = hashlib.md5(PASSWORD.encode(), usedforsecurity=False).hexdigest()
        self._login = {"username": USERNAME, "password": digest}

    @property
    def settings(self) -> Mapping[str, str]:
        return {"username": USERNAME, "password": PASSWORD}

    def is_deletion(self, asked: Asked) -> bool:
        return (asked.method, asked.path) in _DELETIONS

    def expire(self) -> None:
        self._tokens.clear()

    def attend(self, asked: Asked) -> Said:
        match asked.method, asked.path:
            case "GET", "/api/info":
                return _say(200, {"device_model": "practice monitor", "api_version": "1"})
            case "GET", "/api/v1/login" if asked.query == self._login:
                return _say(200, {"token": self._new_token(), "account_type": "admin"})
            case "GET", "/api/v1/login":
                return _refuse(401, "invalid_authentication", "Log In")
        return Said(404, b"Not Found", {"Content-Type": "text/plain"})

    def delete(self, asked: Asked, fault: Fault | None) -> Said:
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self._tokens:
            return _refuse(401, "invalid_authentication", "Log In")
        link_ids = _read(asked.body)
        if link_ids is None or not self.poison.isdisjoint(link_ids):
            return _refuse(400, "not_valid", "Data validation error")
        link_ids = link_ids or sorted(self.remaining)
        there = self.take(link_ids)
        rows = [_row(link_id, there) for link_id in link_ids]
        return _say(200, {"result": _spoil(rows, fault)})

    def _new_token(self) -> str:
        self.logins += 1
        token = f"practice-token-{self.seed}-{self.logins}"
        self._tokens.add(token)
        return token


def _row(link_id: str, there: set[str]) -> Row:
    was_there = link_id in there
    info = "deleted" if was_there else "entity_not_found"
    return {"link_id": link_id, "success": was_there, "extended_info": info}


def _read(body: bytes) -> list[str] | None:
    """The ids in lower case; None where the device's validation would fail."""
    try:
        link_ids = [link_id.lower() for link_id in json.loads(body)["link_ids"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return link_ids if all(map(_UUID.fullmatch, link_ids)) else None


def _spoil(rows: list[Row], fault: Fault | None) -> list[Row]:
    """Let a fault into the first row, or into the order of all."""
    if not rows:
        return rows
    match fault:
        case Fault.OMITTED:
            return rows[1:]
        case Fault.STRANGER:
            return [{**rows[0], "link_id": _STRANGER}, *rows[1:]]
        case Fault.SHUFFLED:
            return [{**row, "link_id": row["link_id"].upper()} for row in reversed(rows)]
        case Fault.CONTRADICTED:
            return [{**rows[0], "success": False, "extended_info": "deleted"}, *rows[1:]]
    return rows


def _say(status: int, document: object) -> Said:
    return Said(status, json.dumps(document).encode())


def _refuse(status: int, code: str, message: str) -> Said:
    return _say(status, {"error": {"code": code, "message": message, "data": {}}})
