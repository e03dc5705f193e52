"""How small jobs arrive: with all that they hold in one statement, where a database can.

A job of one item writes into seven tables. With a statement for each, two thirds
of what it cost to take such a job in went into making them, sending them and
planning them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import Row, Table, TextualSelect, bindparam, text

from worker.errors import RefusedRequest
from worker.job import JobState
from worker.store import entering, packing, printing
from worker.store.entering import Entered, Submission
from worker.store.planning import NEW_RANGE, add_first_batches, noted_of_plan
from worker.store.postgresql import type_of
from worker.store.tables import Moment, batches, chunks, events, jobs, pages, prints
from worker.store.transaction import Tx

#: The most items of a job that goes together with others, in one statement: more are
#: sooner sent in bulk.
FEW_ITEMS = 100


def submit(tx: Tx, submissions: Sequence[Submission]) -> list[Row[Any] | RefusedRequest]:
    """Insert jobs, each with its only chunk and its ranges; their rows, or why not.

    A repeat answers the row that is there. Nothing is written for one that is refused.
    """
    taken: dict[int, Row[Any] | RefusedRequest] = {**_submit_at_once(tx, submissions)}
    others = [place for place in range(len(submissions)) if place not in taken]
    came = entering.submit(tx, [submissions[place] for place in others])
    new = [one for one in came if isinstance(one, Entered) and one.is_new]
    add_first_batches(tx, [one for one in new if one.submission.cuts])
    for place, one in zip(others, came, strict=True):
        taken[place] = one.row if isinstance(one, Entered) else one
    return [taken[place] for place in range(len(submissions))]


def _submit_at_once(tx: Tx, submissions: Sequence[Submission]) -> Mapping[int, Row[Any]]:
    """Insert all that are new, where one statement can; their rows, by their place.

    Whoever inserts the same ones waits for us, and we for nobody who waits for
    us: they go in the order of their ids, and so all of them or none go here.
    """
    if not tx.dialect.has_writing_ctes or not all(map(_is_small, submissions)):
        return {}
    # Of one id the first: what follows is a repeat.
    places = {one.job.id: place for place, one in reversed(list(enumerate(submissions)))}
    given = [_given(submissions[places[job]]) for job in sorted(places)]
    clock, moment = tx.moment()
    tx.dialect.plan_once(tx.connection)
    names = tuple(name for name in given[0] if name in jobs.c)
    rows = tx.execute(_arrival(clock, names), {"given": json.dumps(given), **moment}).all()
    for row in rows:
        tx.gained.open(row.target, len(submissions[places[row.id]].cuts))
    return {places[row.id]: row for row in rows}


def _is_small(one: Submission) -> bool:
    """Whether a job is planned as it comes, is wanted whole, and is sooner sent as JSON."""
    return bool(one.cuts) and not one.chunk.refusals and one.chunk.count <= FEW_ITEMS


# -- what is sent -----------------------------------------------------------------


def _given(one: Submission) -> dict[str, Any]:
    """A submission as the statement reads it: the job's columns, and rows by their table."""
    chunk = one.chunk
    job = entering.values_of_job(one.job, JobState.RUNNING) | entering.counts_of(one)
    paged = packing.rows_of(0, chunk.first, chunk.texts, chunk.keys)
    printed = printing.rows_of(0, chunk.first, chunk.keys)
    lasts = one.job.retain_for
    noted = {
        "job.submitted": entering.noted_of_job(one.job),
        "job.planned": noted_of_plan(chunk.count),
    }
    return {
        **job,
        "retain_for": None if lasts is None else lasts // timedelta(milliseconds=1),
        "of_chunks": [entering.row_of_chunk(0, chunk)],
        "of_pages": list(_named(pages, paged)),
        "of_prints": list(_named(prints, printed)),
        "of_batches": [{"first": c.first, "last": c.last, "items": c.items} for c in one.cuts],
        "of_events": [{"kind": kind, "detail": json.dumps(told)} for kind, told in noted.items()],
    }


def _named(table: Table, rows: Iterable[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Rows by their columns, bytes as their digits."""
    for row in rows:
        sent = [one.hex() if isinstance(one, bytes) else one for one in row]
        yield dict(zip(table.c.keys(), sent, strict=True))


# -- the statement ----------------------------------------------------------------

#: What a job begins with beside what is given.
_BEGUN = {"approved": "false", "finds": "0", "owed": "false"}
#: The columns of the other tables that are given.
_OF_OTHERS: Mapping[Table, Sequence[str]] = {
    chunks: ("number", "items", "bytes", "digest", "lowest", "highest"),
    pages: ("first", "last", "items", "keyed", "bytes", "texts", "keys"),
    prints: ("part", "first", "last", "prints"),
    batches: ("first", "last", "items"),
    events: ("kind", "detail"),
}


@cache
def _arrival(clock: str, names: tuple[str, ...]) -> TextualSelect:
    """What inserts jobs, given by these columns, with all that they hold; the new ones."""
    moments = dict.fromkeys(("created_at", "fed_at", "released_at"), "asked.now")
    round_ = "coalesce((SELECT round FROM targets WHERE name = given.target), 0)"
    new = {
        **_BEGUN,
        **{name: f"given.{name}" for name in names},
        **moments,
        "round": round_,
    }
    parts = ", ".join(f"of_{table.name} json" for table in _OF_OTHERS)
    known: dict[Table, dict[str, str]] = {
        batches: {name: _literal(value) for name, value in NEW_RANGE.items()},
        events: {"at": "landed.created_at", "job": "landed.id", "target": "landed.target"},
    }
    inserted = ", ".join(
        f"in_{table.name} AS ({_insertion(table, {'job': 'landed.seq'} | known.get(table, {}))})"
        for table in _OF_OTHERS
    )
    statement = f"""
        WITH asked (now) AS ({clock or "SELECT CAST(:moment AS bigint)"}),
        given AS (
            SELECT * FROM json_to_recordset(CAST(:given AS json))
            AS one ({_typed(jobs, names)}, {parts})
        ),
        new AS (
            INSERT INTO jobs ({", ".join(new)})
            SELECT {", ".join(new.values())} FROM given, asked ORDER BY given.id
            ON CONFLICT DO NOTHING RETURNING {", ".join(jobs.c.keys())}
        ),
        landed AS (SELECT new.seq, new.created_at, given.* FROM new JOIN given USING (id)),
        {inserted}
        SELECT * FROM new
    """  # noqa: S608 (names of ours)
    moment = [] if clock else [bindparam("moment", type_=Moment)]
    return text(statement).bindparams(*moment).columns(*jobs.c)


def _insertion(table: Table, known: Mapping[str, str]) -> str:
    """The rows of a table that come with the jobs, in their order."""
    names = _OF_OTHERS[table]
    are_bytes = {name for name in names if type_of(table.c[name]) == "bytea"}
    given = [f"decode(one.{n}, 'hex')" if n in are_bytes else f"one.{n}" for n in names]
    return f"""
        INSERT INTO {table.name} ({", ".join([*names, *known])})
        SELECT {", ".join([*given, *known.values()])}
        FROM landed, json_to_recordset(of_{table.name}) AS one ({_typed(table, names)})
    """  # noqa: S608 (names of ours)


def _typed(table: Table, names: Iterable[str]) -> str:
    """Columns as a record of JSON has them, which knows no bytes."""
    kinds = {name: type_of(table.c[name]) for name in names}
    return ", ".join(f"{n} {'text' if kind == 'bytea' else kind}" for n, kind in kinds.items())


def _literal(value: Any) -> str:
    """A value of ours within the statement."""
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)
