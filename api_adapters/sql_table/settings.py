"""What an SQL target can be told."""

from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from api_adapters.errors import Hopeless
from api_adapters.settings import Secret, TargetSettings

_EXPECTED = 'expected "postgresql://user@host/database" or "sqlite:///file"'
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": None}


@lru_cache(maxsize=256)
def parse_url(text: str) -> URL:
    """Read an address and choose the driver. Raises ValueError, without the text.

    >>> parse_url("postgres://worker@db/crm").drivername
    'postgresql+psycopg'
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(_EXPECTED) from None
    backend = url.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise ValueError(_EXPECTED)
    if backend == "sqlite":
        return _sqlite(url)
    return url.set(drivername="postgresql+psycopg")


def _sqlite(url: URL) -> URL:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError('expected "sqlite:///file" with the path of a file')
    return url.set(drivername="sqlite")


def _read_url(given: Any) -> Any:
    """A plain address has no password; one with a password is a secret."""
    if not isinstance(given, str):
        return Secret.model_validate(given)
    if parse_url(given).password is not None:
        raise ValueError(
            'expected no password in the address: put the whole into { env = "NAME" } '
            'or { file = "path" }'
        )
    return given


def _read_key(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class SqlTableSettings(TargetSettings):
    """The table and its key; a query names only columns of `query_columns`."""

    url: Annotated[str | Secret, BeforeValidator(_read_url)]
    table: str = Field(min_length=1)
    schema_name: str | None = Field(default=None, alias="schema", min_length=1)
    key: Annotated[list[str], BeforeValidator(_read_key), Field(min_length=1, max_length=8)]
    query_columns: list[str] = Field(default_factory=list)

    def address(self) -> URL:
        """Where the database is.

        Raises:
            Hopeless: the secret is not there, or holds no address.
        """
        if isinstance(self.url, str):
            return parse_url(self.url)
        try:
            return parse_url(self.url.reveal())
        except ValueError as error:
            raise Hopeless(
                f"the url in the secret: {error}", may_have_run=False, closes_target=True
            ) from error
