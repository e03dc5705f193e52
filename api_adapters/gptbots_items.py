"""What a GPTBots target takes."""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from api_adapters.base import Breach, Item, Warned
from api_adapters.errors import BadItem

LONGEST_KEY = 1024
#: Beyond it a number may be rounded by whoever reads it as a float.
EXACT = 2**53
_RECORD_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: Half of a character, which is no Unicode text.
_HALF = re.compile("[\ud800-\udfff]")


class Filter(NamedTuple):
    """A record by the value of one column."""

    column: str
    value: str | int

    @property
    def document(self) -> dict[str, str | int]:
        return {self.column: self.value}


def read_item(item: Item) -> str | Filter:
    """A record id or a filter; of an item with both the record id alone.

    Raises:
        BadItem: it is neither.
    """
    match item:
        case str(ident) if _RECORD_ID.fullmatch(ident):
            return ident
        case {"record_id": str(ident), **rest} if _RECORD_ID.fullmatch(ident):
            beside = rest.pop("filter", {"": ""})
            if not rest and isinstance(beside, dict) and beside:
                return ident
        case {"filter": dict(columns), **rest} if not rest and len(columns) == 1:
            [column] = columns.items()
            if fits(column):
                return Filter(*column)
    raise BadItem(
        'expected a record id as text, {"record_id": "..."}, or {"filter": {"sku": "A-1"}} with '
        "one column that is unique in the table and a text or an integer below 2**53"
    )


def fits(column: tuple[Any, Any]) -> bool:
    """Whether a filter may be made of this: an empty value could match any record."""
    match column:
        case str(name), str(value):
            return _is_text(name) and _is_text(value)
        case str(name), int(value) if not isinstance(value, bool):
            return _is_text(name) and abs(value) < EXACT
    return False


def _is_text(given: str) -> bool:
    return bool(given.strip()) and not _HALF.search(given)


def warn_of_both(items: Iterable[Item]) -> tuple[Warned, ...]:
    """What to tell of items that hold both; the vendor documents which one wins."""
    both = sum(isinstance(item, dict) and len(item) == 2 for item in items)
    if not both:
        return ()
    message = f"record_id and filter in one item: the filter is left out ({both}x)"
    return (Warned(Breach.CONTRADICTION, message),)


def key_of(wanted: str | Filter) -> str:
    """The record id itself, or the filter as JSON, which is no record id's form.

    Raises:
        BadItem: the filter is too long.
    """
    if isinstance(wanted, str):
        return wanted
    key = json.dumps({"filter": wanted.document}, ensure_ascii=False, separators=(",", ":"))
    if len(key.encode()) > LONGEST_KEY:
        raise BadItem(f"the filter is longer than {LONGEST_KEY} bytes")
    return key
