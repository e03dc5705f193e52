"""The doors: what other applications may ask for, checked before anything is done."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
)

from api_adapters.base import Integers, Verdict
from worker.errors import RefusedRequest
from worker.item import MAX_CHUNK_ITEMS
from worker.job import JobId

#: Python's own reader takes digits of every script, and blanks, and underscores.
_ID_LETTERS = re.compile(r"[A-Za-z0-9:{}-]+")


def parse_job_id(text: str) -> JobId:
    """A job's id in its one spelling.

    >>> parse_job_id("7B2F8C1E-0000-4000-8000-000000000001")
    '7b2f8c1e-0000-4000-8000-000000000001'
    """
    try:
        return JobId(str(UUID(text if _ID_LETTERS.fullmatch(text) else "")))
    except ValueError:
        raise ValueError("expected a UUID") from None


Id = Annotated[str, AfterValidator(parse_job_id)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
# PostgreSQL keeps no text with a zero byte.
Note = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]


def _as_given(items: Any, check: Callable[[Any], list[Any]]) -> list[Any]:
    """Items of which more is known than that they are a list, as they are."""
    return items if isinstance(items, Integers) else check(items)


Items = Annotated[list[Any], WrapValidator(_as_given)]


class Request(BaseModel):
    """The arguments of one public task; an unknown one is a fault."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Kind = TypeVar("Kind", bound=Request)


class Submit(Request):
    """`deletions.submit`: a job with all its items, or a query for them."""

    job: Id
    target: Name
    # Items are looked at one by one at the door: one that is none is rejected
    # there, and the others land.
    items: Items | None = None
    query: dict[str, Any] | None = None
    dry_run: bool = False
    requested_by: Note | None = None
    notify: Name | None = None


class Open(Request):
    """`deletions.open`: a job whose items follow in chunks."""

    job: Id
    target: Name
    chunk_items: int = Field(ge=1)
    dry_run: bool = False
    requested_by: Note | None = None
    notify: Name | None = None


class Append(Request):
    """`deletions.append`: one chunk, in any order and any number of times."""

    job: Id
    chunk: int = Field(ge=0, lt=2**31)
    items: Items


class Seal(Request):
    """`deletions.seal`: how many chunks there are."""

    job: Id
    chunks: int = Field(ge=0, lt=2**31)


class OfJob(Request):
    """`deletions.status` and the commands: a job."""

    job: Id


class OfItem(Request):
    """`deletions.item`: an item of a target."""

    target: Name
    item: Any


class Results(Request):
    """`deletions.results`: one page of outcomes."""

    job: Id
    verdict: Verdict | None = Field(default=None, strict=False)
    after: int | None = Field(default=None, ge=-1, lt=2**63)
    limit: int = Field(default=1_000, ge=1, le=1_000)


def parse(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    """Check the arguments of a public task.

    Raises:
        RefusedRequest: `too_many_items` or `invalid_message`, with every fault.
    """
    items, chunk_items = given.get("items"), given.get("chunk_items")
    counts = {
        "items": len(items) if isinstance(items, list) else 0,
        "chunk_items": chunk_items if isinstance(chunk_items, int) else 0,
    }
    for name, count in counts.items():
        if count > MAX_CHUNK_ITEMS:
            raise RefusedRequest(
                "too_many_items",
                f"{name}: {count} is more than {MAX_CHUNK_ITEMS}: send them in chunks "
                "with deletions.open, .append and .seal",
                data={"limit": MAX_CHUNK_ITEMS},
            )
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        # What was given stays out of it: it may be an item.
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'message'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise RefusedRequest("invalid_message", "; ".join(faults[:20])) from None
