"""A practice Amalto instance: deletes items of one service as its page documents.

It has the deletion, both forms of the look at one item and the list of all,
and knows no other route. The ledger's ids are the items as JSON. An empty
array, whose meaning is undefined, deletes everything here, so that nobody
sends one unnoticed.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import unquote

from api_adapters.fakes.base import Asked, Practice, Said, practice_ids
from api_adapters.fakes.faults import Fault

SERVICE = "archive"
_ROOT = f"/apis/v2/{SERVICE}"
_APP_KEYS = ("acme", "", "acme.eu")
_MESSAGE = "Unexpected error deleting the items!"

Entry = dict[str, Any]


class Backend(Practice):
    """One instance with one service, its items called documents."""

    #: A JWT is given from outside, so its end cannot be told from a wrong one.
    impossible: ClassVar[frozenset[Fault]] = frozenset(
        {Fault.EXPIRED, Fault.UNNUMBERED, Fault.BUSY_CODE}
    )

    def __init__(self, items: Iterable[str] = (), *, seed: int = 0, misbehave: str = "") -> None:
        super().__init__(items, seed=seed, misbehave=misbehave)
        #: Items that may not be deleted, and such that make the instance stumble.
        self.locked: set[str] = set()
        self.broken: set[str] = set()
        #: False: the list is empty, and every item is denied.
        self.may_delete = True
        self._issued = 1

    @classmethod
    def ids(cls, count: int, *, seed: int = 0) -> list[str]:
        names = enumerate(practice_ids(count, seed=seed))
        return [write_id(_APP_KEYS[index % 3], f"doc.{name}") for index, name in names]

    @property
    def token(self) -> str:
        """The one JWT that is taken now."""
        return f"practice-jwt-{self.seed}-{self._issued}"

    @property
    def settings(self) -> Mapping[str, str]:
        return {"token": self.token, "service_id": SERVICE, "items_name": "documents"}

    def is_deletion(self, asked: Asked) -> bool:
        return (asked.method, asked.path) == ("POST", f"{_ROOT}/documents/delete")

    def expire(self) -> None:
        self._issued += 1

    def attend(self, asked: Asked) -> Said:
        if not asked.path.startswith("/apis/v2/"):
            return Said(404, b"Not Found", {"Content-Type": "text/plain"})
        if not self._knows(asked):
            return _refuse(401, "Unauthorized: the token is not valid.")
        match asked.method, asked.path.removeprefix(_ROOT).split("/")[1:]:
            case "GET", ["documents" | "document"] if {"appKey", "name"} <= set(asked.query):
                return self._show(asked.query["appKey"], asked.query["name"])
            case "GET", ["document", name, app_key]:
                return self._show(unquote(app_key), unquote(name))
            case "GET", ["documents"]:
                found = sorted(self.remaining) if self.may_delete else []
                return _say(200, [json.loads(ident) for ident in found])
        return _refuse(404, "Not found: the service or its items are not found.")

    def delete(self, asked: Asked, fault: Fault | None) -> Said:
        if not self._knows(asked):
            return _refuse(401, "Unauthorized: the token is not valid.")
        names = _read(asked.body)
        if names is None:
            return _refuse(400, "Invalid parameter count or content.")
        idents = [write_id(*name) for name in names] or sorted(self.remaining)
        if not self.poison.isdisjoint(idents):
            return _refuse(400, "Invalid parameter count or content.")
        held = self.locked | self.broken if self.may_delete else set(idents)
        there = self.take([ident for ident in idents if ident not in held])
        errors = {_joined(ident): self._error(ident, there) for ident in idents}
        return _answer(len(idents), {k: e for k, e in errors.items() if e}, fault, idents)

    def _knows(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization") == f"Bearer {self.token}"

    def _show(self, app_key: str, name: str) -> Said:
        if write_id(app_key, name) in self.remaining:
            return _say(200, {"appKey": app_key, "name": name, "contentMode": "EDIT"})
        return _refuse(404, f"Not found: the item '{app_key}.{name}' is not found.")

    def _error(self, ident: str, deleted: Collection[str]) -> Entry | None:
        if ident in deleted:
            return None
        if ident not in self.remaining:
            return _entry(404, f"Not found: the item '{_joined(ident)}' is not found.")
        if ident in self.broken:
            return _entry(500, "Unexpected exception.")
        return _entry(403, "Unauthorized: permission 'edit' is missing.")


def write_id(app_key: str, name: str) -> str:
    """An item as the ledger knows it: one line of a JSON lines file.

    >>> write_id("acme", "One")
    '{"appKey":"acme","name":"One"}'
    """
    item = {"appKey": app_key, "name": name}
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"))


def _joined(ident: str) -> str:
    item = json.loads(ident)
    return f"{item['appKey']}.{item['name']}"


def _read(body: bytes) -> list[tuple[str, str]] | None:
    """The identifiers; None where the platform's validation would fail."""
    try:
        names = [(given["appKey"], given["name"]) for given in json.loads(body)]
    except (ValueError, KeyError, TypeError):
        return None
    return names if all(isinstance(text, str) for name in names for text in name) else None


def _answer(
    processed: int, errors: dict[str, Entry], fault: Fault | None, idents: list[str]
) -> Said:
    """The multi-error object; a fault goes into the first item or the counts."""
    statuses = [entry["status"] for entry in errors.values()]
    status = 403 if 403 in statuses else max(statuses, default=200)
    match fault:
        case Fault.OMITTED:
            errors.pop(_joined(idents[0]), None)
            processed -= 1
        case Fault.STRANGER:
            errors.pop(_joined(idents[0]), None)
            errors["nobody.Nothing"] = _entry(404, "Not found.")
        case Fault.SHUFFLED:
            errors = dict(reversed(errors.items()))
        case Fault.CONTRADICTED:
            errors[_joined(idents[0])] = _entry(200, "Success")
        case Fault.MISCOUNTED:
            processed += 1
    text: Any = str if fault is Fault.AS_TEXT else int
    for entry in errors.values():
        entry |= {"status": text(entry["status"]), "code": text(entry["code"])}
    message = _MESSAGE if errors else ""
    return _say(status, {"processed": text(processed), "errors": errors, "message": message})


def _entry(status: int, said: str) -> Entry:
    """One error, with all the platform lets out of itself."""
    frame = {"methodName": "checkEditPermission", "lineNumber": 703, "nativeMethod": False}
    return {
        "cause": None,
        "stackTrace": [frame],
        "status": status,
        "code": status,
        "link": None,
        "developerMessage": said,
        "conflictInformation": None,
        "message": f"{_MESSAGE} {said}",
        "localizedMessage": f"{_MESSAGE} {said}",
        "suppressed": [],
    }


def _say(status: int, document: object) -> Said:
    return Said(status, json.dumps(document).encode())


def _refuse(status: int, said: str) -> Said:
    document = {
        "status": status,
        "code": status,
        "message": _MESSAGE,
        "link": None,
        "developerMessage": said,
        "conflictInformation": None,
    }
    return _say(status, document)
