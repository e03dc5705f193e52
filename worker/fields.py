"""Fields of every log record that is written meanwhile, by whatever module.

An adapter that breaks does not know for which job; who called it does. This is
structlog's `contextvars`, without the tenth of a second that importing it takes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

_NONE: Mapping[str, Any] = MappingProxyType({})
_bound: ContextVar[Mapping[str, Any]] = ContextVar("fields", default=_NONE)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Bind fields to this thread until the block ends.

    >>> with bound(target="crm"), bound(job="j1"):
    ...     dict(present())
    {'target': 'crm', 'job': 'j1'}
    """
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def present() -> Mapping[str, Any]:
    """What is bound now."""
    return _bound.get()
