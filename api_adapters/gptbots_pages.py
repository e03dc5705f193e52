"""The pages of records that the read call of GPTBots answers with.

A page stands in `data` beside `code` and `message`, or is the answer itself.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api_adapters.answer import Answer, whole_number
from api_adapters.errors import Hopeless, Transient
from api_adapters.gptbots_answers import failure, is_success, written_out

#: As many records as a page may hold.
PAGE_SIZE = 100


class Column(BaseModel):
    """A field of the table."""

    name: str
    #: Anything but true is no proof that it is.
    unique: object = None


class _Table(BaseModel):
    fields: list[Column]


class Record(BaseModel):
    """One row; `id` is its record id, a column of that name stands in `value`."""

    id: Annotated[str, BeforeValidator(written_out), Field(min_length=1)]
    value: dict[str, Any] | None = None

    def is_like(self, column: str, wanted: str | int) -> bool:
        """Whether the column holds the value; true where it is not shown."""
        held = (self.value or {}).get(column, wanted)
        if isinstance(held, float) and held.is_integer():
            held = int(held)
        return isinstance(held, str | int | float) and str(held) == str(wanted)


class Page(BaseModel):
    """One page of records."""

    model_config = ConfigDict(strict=True)

    table_info: _Table
    records: list[Record]
    total_count: Annotated[int, BeforeValidator(whole_number), Field(ge=0)]

    @property
    def ids(self) -> list[str]:
        """The record ids, in the page's order."""
        return [record.id for record in self.records]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is shown, and nothing counted."""
        return not self.records and self.total_count == 0

    def is_unique(self, column: str) -> bool:
        """Whether the table promises that no value stands in that column twice."""
        return any(one.name == column and one.unique is True for one in self.table_info.fields)

    def lacks(self, record_id: str) -> bool:
        """Whether all that there is, is shown, and that record is not among it."""
        return record_id not in self.ids and self.total_count == len(self.records)

    def check_filter(self, columns: Mapping[str, str | int]) -> None:
        """Refuse records that the filter cannot have let through.

        Raises:
            Hopeless: what it excludes would be deleted as well.
        """
        pairs = columns.items()
        if not all(record.is_like(*pair) for record in self.records for pair in pairs):
            raise Hopeless(
                "the read call lists records that the filter excludes: give record ids instead",
                may_have_run=False,
            )

    def check_place(self, number: int, *, before: Sequence[str]) -> None:
        """Refuse what cannot be the page of that number, after one with the ids `before`.

        Raises:
            Transient: it repeats the one before, or is cut short.
        """
        is_short = len(self.ids) < PAGE_SIZE and not self.is_last(number)
        if is_short or (self.ids and self.ids == list(before)):
            raise Transient(
                f"page {number} of the table repeats or is cut short", may_have_run=False
            )

    def is_last(self, number: int) -> bool:
        """Whether no page follows this one, which has that number."""
        return number * PAGE_SIZE >= self.total_count


def read_page(answer: Answer) -> Page:
    """The records in an answer of the read call, bare or wrapped.

    Raises:
        Transient, Refused, Hopeless: there are none.
    """
    match answer.document:
        case {"data": dict(inner), "code": _} if is_success(answer):
            found: object = inner
        case {"records": _, **rest} if answer.status // 100 == 2 and _is_bare(rest):
            found = answer.document
        case _:
            raise failure(answer)
    try:
        return Page.model_validate(found)
    except ValidationError:
        raise failure(answer) from None


def _is_bare(rest: Mapping[Any, object]) -> bool:
    """Whether nothing beside the records speaks of a failure."""
    return rest.get("error") is None and whole_number(rest.get("code", 0)) == 0
