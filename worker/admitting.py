"""What happens to items at the door: checked, keyed, and equal ones found."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from json.encoder import encode_basestring_ascii
from operator import lt
from typing import Any

from api_adapters.base import Adapter, Evidence, Integers, Item, Verdict
from api_adapters.errors import BadItem, BadQuery
from worker.errors import RefusedRequest
from worker.guarding import NO_GUARD, Guard, kept_mark
from worker.item import (
    MAX_CODE,
    MAX_DEPTH,
    MAX_ITEM_BYTES,
    MAX_KEY_BYTES,
    MAX_MESSAGE,
    Landed,
    Mark,
    digest_of_key,
    digests_of_keys,
    is_too_deep,
    legible,
    size_of,
    to_json,
)
from worker.store.base import Chunk
from worker.target import Target


def admit(
    values: Sequence[Any],
    *,
    target: str,
    key_of: Callable[[Item], str],
    keys_of: Callable[[Sequence[Item]], list[str]] | None = None,
    guard: Guard = NO_GUARD,
    number: int = 0,
    chunk_items: int = 0,
) -> Chunk:
    """Make a chunk of what was given; an item that is none is refused alone.

    Nothing is dropped: every value keeps its position, and one that cannot be
    deleted, or that `guard` keeps, lands with its verdict, so that it is told
    in the results. `keys_of` tells at once what `key_of` does one by one.

    Raises:
        RefusedRequest: `too_large`, an item is over 16 KiB and cannot be kept
            as it was given.
    """
    first = number * chunk_items
    landed = None
    if keys_of is not None and not guard.globs:
        landed = _land_alike(values, target=target, keys_of=keys_of)
    if landed is None:
        landed = _land_each(first, values, target=target, key_of=key_of, guard=guard)
    content = "\n".join([*landed.texts, ""]).encode("ascii")
    return Chunk(
        number=number,
        first=first,
        texts=landed.texts,
        keys=landed.keys,
        refusals=landed.refusals,
        count=len(values),
        given=len(values),
        # Without the ends of the lines.
        size=len(content) - len(values),
        digest=sha256(content).hexdigest(),
        ends=landed.ends,
    )


def without_duplicates(chunk: Chunk) -> Chunk:
    """The same chunk with only the first of equal keys."""
    given = [key for key in chunk.keys if key is not None]
    if len(set(given)) == len(given):
        return chunk
    seen: set[bytes] = set()
    texts, keys, refusals = list(chunk.texts), list(chunk.keys), dict(chunk.refusals)
    for index, key in enumerate(chunk.keys):
        if key is not None and key in seen:
            texts[index], keys[index] = "", None
            refusals.pop(chunk.first + index, None)
        elif key is not None:
            seen.add(key)
    count = sum(map(bool, texts))
    return replace(chunk, texts=texts, keys=keys, refusals=refusals, count=count)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What lands, place by place, and the outcomes of what is refused."""

    texts: list[str]
    keys: list[bytes | None]
    refusals: dict[int, Mark]
    #: As in a chunk.
    ends: tuple[str, str] | None = None


#: What `to_json` does, where all values are of one type.
_ENCODERS: dict[type, Callable[[Any], str]] = {str: encode_basestring_ascii, int: str}


def _land_alike(
    values: Sequence[Any], *, target: str, keys_of: Callable[[Sequence[Item]], list[str]]
) -> _Columns | None:
    """All values at once where each is a short text or a number that the adapter takes.

    None where one of them needs a closer look. Most lots are so, and what is
    done here a lot takes a fifth of the time of what is done an item.
    """
    types = set(map(type, values))
    if not types <= {str, int}:
        return None
    encode = _ENCODERS[next(iter(types))] if len(types) == 1 else to_json
    try:
        texts = values.digits if isinstance(values, Integers) else list(map(encode, values))
        named = keys_of(Integers(values, texts) if encode is str else values)
    # A stranger's adapter may raise anything; each item is asked for by itself.
    except Exception:  # noqa: BLE001
        return None
    if len(named) != len(values):
        # A key too many, and each item after it would have its neighbour's.
        return None
    # No letter takes more than four bytes, and escaped no less than in UTF-8.
    if max(map(len, named), default=0) * 4 > MAX_KEY_BYTES:
        return None
    if named is not texts and max(map(len, texts), default=0) > MAX_ITEM_BYTES:
        return None
    # Where an integer's key is its digits, numbers are compared sooner.
    ranks = values if encode is str and named == texts else named
    return _Columns(texts, [*digests_of_keys(target, named)], {}, _ends(named, ranks))


def _ends(keys: Sequence[str], ranks: Sequence[Any]) -> tuple[str, str] | None:
    """The ends of a chunk whose keys ascend as their `ranks` do: numbers, or the keys themselves.

    Where they do not, the first few tell of most lots. A store keeps no letter
    of every kind, and what begins with a minus ascends the other way.
    """
    if not keys or not all(map(lt, ranks, islice(ranks, 1, None))):
        return None
    ends = keys[0], keys[-1]
    is_even = ranks[0] >= 0 if ranks is not keys else len(set(map(len, keys))) == 1
    return ends if is_even and all(one.isascii() and one.isprintable() for one in ends) else None


def _land_each(
    first: int, values: Sequence[Any], *, target: str, key_of: Callable[[Item], str], guard: Guard
) -> _Columns:
    """Each value by itself."""
    columns = _Columns([], [], {})
    for position, value in enumerate(values, first):
        one = _land(position, value, target=target, key_of=key_of, guard=guard)
        columns.texts.append(one.text)
        columns.keys.append(one.key)
        if one.refusal is not None:
            columns.refusals[position] = one.refusal
    return columns


def is_item(value: Any) -> bool:
    """Whether a value can be an item at all.

    >>> [is_item(one) for one in ("a", 7, {"id": 7}, True, 1.5, None, ["a"])]
    [True, True, True, False, False, False, False]
    """
    # A union of types takes ten times as long to be told.
    return isinstance(value, (str, int, dict)) and not isinstance(value, bool)


def _land(
    position: int, value: Any, *, target: str, key_of: Callable[[Item], str], guard: Guard
) -> Landed:
    """One value as it comes in."""
    text = _text(position, value)
    if not is_item(value):
        message = "expected a string, an integer or an object"
        return Landed(position, text, None, _refusal("malformed", message))
    try:
        key = key_of(value)
    except BadItem as error:
        return Landed(position, text, None, _refusal(error.code, error.message))
    # A stranger's adapter may raise anything; what it says may hold the item.
    except Exception as error:  # noqa: BLE001
        message = f"the adapter cannot take it: {type(error).__name__}"
        return Landed(position, text, None, _refusal("invalid_item", message))
    # No letter takes more than four bytes.
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        message = f"its key is longer than {MAX_KEY_BYTES} bytes"
        return Landed(position, text, None, _refusal("key_too_long", message))
    why = guard.why_kept(value, key)
    refusal = kept_mark(Mark(), why) if why is not None else None
    return Landed(position, text, digest_of_key(target, key), refusal)


def _text(position: int, value: Any) -> str:
    """The value as JSON. Raises RefusedRequest: `too_large`, `invalid_message`."""
    if not isinstance(value, str) and is_too_deep(value):
        raise RefusedRequest(
            "invalid_message",
            f"the item at position {position} is nested more than {MAX_DEPTH} deep",
            data={"position": position, "limit": MAX_DEPTH},
        )
    text = to_json(value)
    # ASCII escapes are longer than what was given, so only a long text is
    # measured as it was.
    if len(text) > MAX_ITEM_BYTES and size_of(value) > MAX_ITEM_BYTES:
        raise RefusedRequest(
            "too_large",
            f"the item at position {position} is larger than {MAX_ITEM_BYTES} bytes",
            data={"position": position, "limit": MAX_ITEM_BYTES},
        )
    return text


def admit_query(
    query: Mapping[str, Any], *, target: Target, adapter: Callable[[], Adapter]
) -> None:
    """Refuse what a target may not be asked, or what narrows nothing.

    Raises:
        RefusedRequest: `query_not_allowed` or `query_refused`.
    """
    data = {"target": target.name}
    if not target.settings.allow_query:
        raise RefusedRequest(
            "query_not_allowed",
            f"target '{target.name}' takes items only: its configuration does not say "
            "allow_query = true",
            data=data,
        )
    if not is_plain(query):
        what = f"expected plain JSON of at most {MAX_ITEM_BYTES} bytes"
        raise RefusedRequest("query_refused", f"query: {what}", data=data)
    able = adapter()
    try:
        able.check_query(query)
    except BadQuery as error:
        raise RefusedRequest("query_refused", f"query: {error}", data=data) from error
    # A stranger's adapter may raise anything; what it says may hold the query.
    except Exception as error:  # noqa: BLE001
        what = f"the adapter cannot read it: {type(error).__name__}"
        raise RefusedRequest("query_refused", f"query: {what}", data=data) from None


def is_plain(query: Mapping[str, Any]) -> bool:
    """Whether a query is JSON that can be kept: no deeper and no longer than an item.

    >>> is_plain({"keyword": "old"}), is_plain({"limit": float("nan")})
    (True, False)
    """
    if is_too_deep(query):
        return False
    try:
        return len(json.dumps(query, allow_nan=False)) <= MAX_ITEM_BYTES
    except (ValueError, TypeError):
        return False


def _refusal(code: str, message: str) -> Mark:
    """The outcome of an item that is refused at the door; it was never sent."""
    code, message = legible(code, length=MAX_CODE), legible(message, length=MAX_MESSAGE)
    return Mark(Verdict.REJECTED, Evidence.NONE, code, message)
