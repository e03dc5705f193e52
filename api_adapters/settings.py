"""What every target can be told, and the types its configuration is made of."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from api_adapters.errors import Hopeless

_DURATION = re.compile(r"([1-9][0-9]*)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: Any) -> timedelta:
    """Read a length of time such as `30s 5m 6h 90d 2w`.

    >>> parse_duration("90d")
    datetime.timedelta(days=90)
    """
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('expected a duration such as "30s", "5m", "6h", "90d" or "2w"')
    try:
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise ValueError("expected a duration below a thousand years") from None


def parse_base_url(text: str) -> str:
    """Check an address; a path prefix is kept, a trailing slash is not.

    >>> parse_base_url("http://10.0.0.7/api/v1/")
    'http://10.0.0.7/api/v1'
    """
    expected = 'expected an address such as "https://host/prefix", without user, query or fragment'
    try:
        parts = urlsplit(text)
        bad = parts.port == 0
    except ValueError:
        raise ValueError(expected) from None
    if bad or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(expected)
    if parts.username or parts.password or "?" in text or "#" in text or not text.isascii():
        raise ValueError(expected)
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(expected)
    return text.rstrip("/")


def _plain_proxy(address: str) -> str:
    # TLS inside TLS could not be cut off at a call's deadline.
    if not address.startswith("http://"):
        raise ValueError('expected a proxy such as "http://host:3128"')
    return address


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
BaseUrl = Annotated[str, AfterValidator(parse_base_url)]
Glob = Annotated[str, Field(min_length=1, max_length=1024)]
ProxyUrl = Annotated[BaseUrl, AfterValidator(_plain_proxy)]


class Settings(BaseModel):
    """A table of the configuration: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Secret(Settings):
    """Where a secret is: never the secret itself."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_literal(cls, given: Any) -> Any:
        if not isinstance(given, dict | Secret):
            raise ValueError(
                'expected { env = "NAME" } or { file = "path" }, never the secret itself'
            )
        return given

    @model_validator(mode="after")
    def _one_place(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError('expected exactly one of { env = "NAME" } and { file = "path" }')
        return self

    def reveal(self) -> str:
        """Read the secret; a file is read anew each time, so it can be rotated.

        Raises:
            Hopeless: it is not there, or empty.
        """
        place = f"environment variable {self.env}" if self.env else f"file {self.file}"
        try:
            found = os.environ.get(self.env) if self.env else Path(self.file or "").read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Hopeless(
                f"the secret in {place} cannot be read: {error}",
                may_have_run=False,
                closes_target=True,
            ) from error
        secret = (found or "").strip("\r\n")
        if not secret:
            raise Hopeless(
                f"the secret in {place} is not set: set it where the workers run",
                may_have_run=False,
                closes_target=True,
            )
        return secret


#: A name that is no secret, said in the file or kept where the secrets are.
AccountName = Annotated[str, Field(min_length=1)] | Secret


def account_name(name: AccountName | None) -> str:
    """The name itself. Raises Hopeless: its place cannot be read."""
    match name:
        case None:
            return ""
        case Secret():
            return name.reveal()
    return name


class TargetSettings(Settings):
    """What every target can be told; what is left out is the adapter's."""

    adapter: str
    max_items_per_call: int | None = Field(default=None, ge=1, le=10_000)
    requests_per_second: float | None = Field(default=None, gt=0, strict=False)
    max_in_flight: int | None = Field(default=None, ge=1, le=1_000)
    timeout: Duration | None = None
    max_attempts: int = Field(default=5, ge=1, le=100)
    allow_query: bool = False
    plan_valid_for: Duration = timedelta(hours=24)
    max_items: int | None = Field(default=None, ge=1)
    retain_for: Duration | None = None
    #: Globs over the canonical key: what matches one is never sent.
    protect: Annotated[tuple[Glob, ...], Field(strict=False)] = ()
    #: A larger share of failures after so many decided items stops a job.
    max_failures: float = Field(default=0.5, gt=0, le=1, strict=False)
    failures_after: int = Field(default=1_000, ge=1)


class HttpSettings(TargetSettings):
    """A target that is reached over HTTP."""

    base_url: BaseUrl
    ca_file: str | None = None
    proxy: ProxyUrl | None = None
