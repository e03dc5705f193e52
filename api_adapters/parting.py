"""One call in several requests, where a backend takes less at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from api_adapters.base import Finding, Reply, Warned
from api_adapters.errors import CallFailed

Keys = Sequence[str]


def cut_by_length(keys: Iterable[str], *, most: int, separator: int = 1) -> Iterator[Keys]:
    """Parts whose keys, joined, are at most so many characters; one key at least.

    >>> list(cut_by_length(["aa", "bb", "cccccc", "d"], most=5))
    [['aa', 'bb'], ['cccccc'], ['d']]
    """
    part: list[str] = []
    length = 0
    for key in keys:
        if part and length + separator + len(key) > most:
            yield part
            part, length = [], 0
        length += len(key) + (separator if part else 0)
        part.append(key)
    if part:
        yield part


def in_parts(parts: Sequence[Keys], delete: Callable[[Keys], Reply]) -> Reply:
    """Delete part after part; after the first failure nothing more is sent."""
    if len(parts) == 1:
        return delete(parts[0])
    findings: dict[str, Finding] = {}
    unsent: set[str] = set()
    warnings: list[Warned] = []
    error: CallFailed | None = None
    for part in parts:
        if error is not None:
            unsent.update(part)
            continue
        reply = _tried(part, delete)
        findings.update(reply.findings)
        unsent.update(reply.unsent)
        warnings.extend(reply.warnings)
        error = reply.error
    return Reply(findings, frozenset(unsent), error, tuple(warnings))


def _tried(part: Keys, delete: Callable[[Keys], Reply]) -> Reply:
    try:
        return delete(part)
    except CallFailed as error:
        return Reply(error=error)
