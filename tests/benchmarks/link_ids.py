"""The ids of the things to delete: as many as wanted, none kept in memory."""

from collections.abc import Iterable, Iterator
from itertools import islice


def link_id(number: int) -> str:
    """The id of a number.

    >>> link_id(17)
    '00000011-0000-4000-8000-000000000000'
    """
    return f"{number:08x}-0000-4000-8000-000000000000"


def link_ids(count: int, *, first: int = 0) -> Iterator[str]:
    """So many ids, one after the other."""
    return map(link_id, range(first, first + count))


def chunks(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of so many ids, the last one as long as what is left.

    >>> list(chunks("abc", 2))
    [['a', 'b'], ['c']]
    """
    rest = iter(ids)
    while chunk := list(islice(rest, size)):
        yield chunk
