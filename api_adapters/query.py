"""What every adapter asks of a query before it is sent anywhere."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from api_adapters.errors import BadQuery


def check_names(query: Mapping[str, Any], *, known: Collection[str]) -> None:
    """Refuse a name that the adapter does not know: it would narrow nothing.

    Raises:
        BadQuery: with the names that there are.
    """
    if not isinstance(query, Mapping):
        raise BadQuery(f"expected an object with {', '.join(known)}")
    unknown = sorted(str(name)[:40] for name in query if name not in known)
    if unknown:
        raise BadQuery(f"unknown {', '.join(unknown)}; expected {', '.join(known)}")


def read_limit(query: Mapping[str, Any]) -> int | None:
    """The number of items that are wanted at most; None for all.

    Raises:
        BadQuery: it is no positive integer.
    """
    limit = query.get("limit")
    if "limit" not in query:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise BadQuery("expected limit to be a positive integer")
    return limit


def check_text(text: object, *, name: str, longest: int = 6_000) -> None:
    """Refuse what is no text that can be searched for within an address.

    Raises:
        BadQuery: it is none, holds no letter or digit, cannot be printed, or
            is longer than so many bytes, percent-encoded.
    """
    if not isinstance(text, str) or not any(character.isalnum() for character in text):
        raise BadQuery(f"expected {name} to be a text with a letter or a digit in it")
    if not text.isprintable() or len(quote(text)) > longest:
        raise BadQuery(
            f"expected {name} to be printable, and at most {longest} bytes in an address"
        )


def holds_a_value(document: object) -> bool:
    """Whether anything but empty objects and lists stands in a document.

    >>> holds_a_value({"and": [{"not": {}}]})
    False
    """
    rest = [document]
    while rest:
        match rest.pop():
            case dict(inner):
                rest.extend(inner.values())
            case list(inner):
                rest.extend(inner)
            case _:
                return True
    return False
