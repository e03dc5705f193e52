"""A practice GPTBots agent with one table, as the vendor's pages document it.

It has the deletion and the pages of records, and no look at one record id. A
record has a unique column `sku`, a column `id` that is not its record id, and
a `title` that is not unique. An empty `delete_data`, whose meaning is
undefined, deletes everything here, so that nobody sends one unnoticed.
"""

import json
import random
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar

from api_adapters.fakes.base import Asked, Practice, Said
from api_adapters.fakes.faults import Fault

TABLE = "673af861ed69656ac0895b07"
_DELETE = ("POST", "/v2/database/delete/record")
_PAGE = ("POST", "/v1/database/records/page")
_MOST_ENTRIES = 1_000
_TOO_MANY = 429
_TABLE_INFO = {
    "fields": [
        {"name": "sku", "type": "text", "unique": True},
        {"name": "id", "type": "text", "unique": True},
        {"name": "title", "type": "text", "unique": False},
    ]
}


class Shape(StrEnum):
    """How an installation writes its answers."""

    WRAPPED = "wrapped"  #: a page in `data`, beside code and message
    BARE = "bare"  #: a page by itself
    WHITE_LABEL = "white_label"  #: an error as {"error": {"code", "message"}}


class Backend(Practice):
    """One agent and its table."""

    #: No record is named in an answer, and the key is given from outside.
    impossible: ClassVar[frozenset[Fault]] = frozenset(
        {
            Fault.EXPIRED,
            Fault.OMITTED,
            Fault.STRANGER,
            Fault.SHUFFLED,
            Fault.CONTRADICTED,
            Fault.MISCOUNTED,
            Fault.UNNUMBERED,
        }
    )

    def __init__(self, items: Iterable[str] = (), *, seed: int = 0, misbehave: str = "") -> None:
        super().__init__(items, seed=seed, misbehave=misbehave)
        self.shape = Shape.WRAPPED
        #: What the key may do; without the read call it answers 404.
        self.may_read = True
        self.may_delete = True
        self.has_read_call = True
        #: What the read call says instead of a page: a code, or the status 429.
        self.refusal = 0
        #: Records that took over the `sku` of another one, by record id.
        self.named_as: dict[str, str] = {}
        self._order: list[str] | None = None
        self._issued = 1

    @classmethod
    def ids(cls, count: int, *, seed: int = 0) -> list[str]:
        dice = random.Random(seed)  # noqa: S311 - ids that can be made again elsewhere
        return [str(dice.randrange(10**17, 10**18)) for _ in range(count)]

    @property
    def token(self) -> str:
        """The one key that is taken now."""
        return f"practice-key-{self.seed}-{self._issued}"

    @property
    def settings(self) -> Mapping[str, str]:
        return {"token": self.token, "table_id": TABLE}

    def is_deletion(self, asked: Asked) -> bool:
        return (asked.method, asked.path) == _DELETE

    def expire(self) -> None:
        self._issued += 1

    def take(self, keys: Collection[str]) -> set[str]:
        self._order = None
        return super().take(keys)

    def told(self, orders: Mapping[str, Any]) -> None:
        self._order = None
        super().told(orders)

    def attend(self, asked: Asked) -> Said:
        if (asked.method, asked.path) != _PAGE or not self.has_read_call:
            return Said(404, b"Not Found", {"Content-Type": "text/plain"})
        if self.refusal == _TOO_MANY:
            return Said(_TOO_MANY)
        given = _read(asked.body)
        refusal = self.refusal or self._refusal(asked, given, may=self.may_read)
        if refusal or given is None:
            return self._refuse(refusal)
        number, size = given.get("page"), given.get("page_size")
        if not (isinstance(number, int) and isinstance(size, int) and 1 <= size <= 100):
            return self._refuse(40000)
        found = self._find(given.get("filter") or {}, given.get("keyword") or "")
        return self._show(found, number, size)

    def delete(self, asked: Asked, fault: Fault | None) -> Said:
        given = _read(asked.body)
        refusal = self._refusal(asked, given, may=self.may_delete)
        if fault is Fault.BUSY_CODE:
            refusal = 40008
        entries = given.get("delete_data") if given else None
        if refusal or not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
            return self._refuse(refusal)
        found = [self._entry(entry) for entry in entries] or [sorted(self.remaining)]
        idents = [ident for some in found for ident in some or ()]
        if None in found or not self.poison.isdisjoint(idents):
            return self._refuse(40000)
        self.take(idents)
        return _say({"code": "0" if fault is Fault.AS_TEXT else 0, "message": "OK"})

    def _refusal(self, asked: Asked, given: dict[str, Any] | None, *, may: bool) -> int:
        if asked.headers.get("Authorization") != f"Bearer {self.token}":
            return 40127
        if given is None or asked.headers.get("Content-Type") != "application/json":
            return 40000
        if given.get("table_id") != TABLE:
            return 403106
        return 0 if may else 403131

    def _entry(self, entry: object) -> list[str] | None:
        """The record ids that an entry of `delete_data` names; None for a bad one."""
        match entry:
            case {"record_id": str(ident)} if ident:
                return [ident]
            case {"filter": dict(columns)} if len(columns) == 1:
                unique = {field["name"] for field in _TABLE_INFO["fields"] if field["unique"]}
                return self._find(columns, "") if unique.issuperset(columns) else None
        return None

    def _find(self, columns: Mapping[str, object], keyword: str) -> list[str]:
        if set(columns) == {"sku"} and not self.named_as:
            ident = str(columns["sku"]).removeprefix("SKU-")
            return [ident] if ident in self.remaining and columns["sku"] == f"SKU-{ident}" else []
        if self._order is None:
            self._order = sorted(self.remaining)
        if not columns and not keyword:
            return self._order
        return [ident for ident in self._order if _matches(self._value(ident), columns, keyword)]

    def _show(self, found: list[str], number: int, size: int) -> Said:
        shown = found[(number - 1) * size : number * size]
        page = {
            "table_info": _TABLE_INFO,
            "records": [{"id": ident, "value": self._value(ident)} for ident in shown],
            "total_count": len(found),
        }
        is_bare = self.shape is Shape.BARE
        return _say(page if is_bare else {"code": 0, "message": "OK", "data": page})

    def _value(self, ident: str) -> dict[str, str]:
        """The columns of a record as they are now."""
        return value_of(ident) | {"sku": f"SKU-{self.named_as.get(ident, ident)}"}

    def _refuse(self, code: int) -> Said:
        error = {"code": code or 40000, "message": "refused"}
        return _say({"error": error} if self.shape is Shape.WHITE_LABEL else error)


def value_of(ident: str) -> dict[str, str]:
    """The columns of a record as it was made."""
    return {"sku": f"SKU-{ident}", "id": ident[::-1], "title": f"Practice {ident[:2]}"}


def _matches(value: Mapping[str, str], columns: Mapping[str, object], keyword: str) -> bool:
    has_columns = all(value.get(name) == wanted for name, wanted in columns.items())
    return has_columns and any(keyword in text for text in value.values())


def _read(body: bytes) -> dict[str, Any] | None:
    try:
        given = json.loads(body)
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _say(document: object) -> Said:
    return Said(200, json.dumps(document).encode())
