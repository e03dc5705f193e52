"""What an adapter asks of the HTTP client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class Content:
    """The body of a request and its media type."""

    type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Link:
    """An address found in an answer, proven to lie on the target's own origin."""

    target: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `route` is its name in messages, so it holds no data.

    A path is joined to `base_url`, prefix kept, and is percent-encoded by
    whoever builds it; a `Link` stands for itself.
    """

    method: str
    path: str | Link = field(repr=False)
    route: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str | int] = field(default_factory=dict, repr=False)
    content: Content | None = field(default=None, repr=False)


def as_json(document: object, *, type: str = "application/json") -> Content:  # noqa: A002
    """A JSON body, in ASCII."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return Content(type, text.encode("ascii"))


def as_form(fields: Mapping[str, str]) -> Content:
    """A form body, as OAuth token endpoints take it."""
    return Content("application/x-www-form-urlencoded", urlencode(fields).encode("ascii"))
