"""The tables of the results store, as the program reads and writes them.

The migrations make them; a test holds the two against each other. Moments are
whole milliseconds since 1970 in UTC, so that both dialects compare and add
them alike; the view `outcomes` shows them to people.
"""

from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    case,
    text,
)

from api_adapters.base import Verdict
from worker.call import BOUNDS, Answer

metadata = MetaData()

#: SQLite numbers rows by itself only where the key is exactly INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """An aware moment, kept as whole milliseconds since 1970 in UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To milliseconds."""
        return None if value is None else (value - EPOCH) // timedelta(milliseconds=1)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """From milliseconds."""
        return None if value is None else EPOCH + timedelta(milliseconds=int(value))


class Length(TypeDecorator[timedelta]):
    """A length of time, kept as whole milliseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """To milliseconds."""
        return None if value is None else value // timedelta(milliseconds=1)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> timedelta | None:
        """From milliseconds."""
        return None if value is None else timedelta(milliseconds=int(value))


def _mark_columns() -> list[Column[Any]]:
    """What is known of a range, or of a stray."""
    return [
        Column("verdict", String(16)),
        Column("evidence", String(16), nullable=False, default="none"),
        Column("code", String(64)),
        Column("message", Text),
        Column("doubt", Boolean, nullable=False, default=False),
        Column("calls", Integer, nullable=False, default=0),
        Column("decided_at", Moment),
    ]


targets = Table(
    "targets",
    metadata,
    Column("name", String(64), primary_key=True),
    # The lowest round that is being served: a new job enters here.
    Column("round", BigInteger, nullable=False, default=0),
    # One moment for all workers: pace, a 429, a closed target.
    Column("not_before", Moment, nullable=False, default=EPOCH),
    Column("succeeded_at", Moment),
    Column("call_time", Length),
    Column("closed_at", Moment),
    Column("closed_reason", Text),
    # Calls without a sign of life since the last one with it, and how often
    # the circuit was opened since then.
    Column("failing", Integer, nullable=False, default=0),
    Column("openings", Integer, nullable=False, default=0),
)

#: Apart from their targets, whose rows are held by whoever claims: who rings must
#: not wait for them.
bells = Table(
    "bells",
    metadata,
    Column("target", String(64), primary_key=True),
    # None once a worker has come to it.
    Column("rung_at", Moment),
    Column("answered_at", Moment),
    sqlite_with_rowid=False,
)

leases = Table(
    "leases",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("target", String(64), nullable=False),
    Column("holder", String(128), nullable=False),
    Column("until", Moment, nullable=False),
    # How long it is at a time.
    Column("lasting", Length, nullable=False),
    # When its calls are expected to have been made; None if nobody knows how long one takes.
    Column("expected_end", Moment),
    Index("leases_by_target", "target", "until"),
    Index("leases_by_until", "until"),
    # Without it SQLite gives the number of a deleted lease to the next one.
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("target", String(64), nullable=False),
    # What the target was when the job came: decides *what* is deleted.
    Column("fingerprint", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text),
    # How the job is to end: None for by itself, else cancel, decline or stop.
    Column("wish", String(10)),
    Column("dry_run", Boolean, nullable=False),
    Column("approved", Boolean, nullable=False, default=False),
    # The job whose frozen items this one takes.
    Column("plan", String(36)),
    # The verdicts of the parent's items that a retry takes, as a JSON list.
    Column("leftovers", Text),
    # What is to be found, as it was asked for and as it holds for the whole job.
    Column("query", Text),
    Column("frozen", Text),
    # When the last of what was found had landed.
    Column("found_at", Moment),
    # How often the find was begun.
    Column("finds", Integer, nullable=False, default=0),
    # A person has to look at it first, whatever its size.
    Column("needs_approval", Boolean, nullable=False, default=False),
    # How long the items are kept once the job is settled; None is for ever.
    Column("retain_for", Length),
    # A digest of all that was asked for beside the items.
    Column("options", String(64), nullable=False),
    Column("chunk_items", Integer, nullable=False),
    # How many chunks there are; None until the job is sealed.
    Column("chunks", Integer),
    Column("items", BigInteger, nullable=False, default=0),
    Column("duplicates", BigInteger, nullable=False, default=0),
    # Whether every position lies in a range.
    Column("is_cut", Boolean, nullable=False, default=False),
    Column("round", BigInteger, nullable=False, default=0),
    Column("requested_by", Text),
    Column("notify", String(64)),
    # A notification is owed until it was sent.
    Column("owed", Boolean, nullable=False, default=False),
    Column("parent", String(36)),
    Column("created_at", Moment, nullable=False),
    Column("fed_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("planner", String(128)),
    Column("planner_until", Moment),
    # The closing tally as JSON.
    Column("tally", Text),
    # The standing order that asked for it, and what that was then.
    Column("purge", String(64)),
    Column("purge_digest", String(64)),
    # More items than this wait for approval, whatever the target says.
    Column("max_items", BigInteger),
    # A digest of the items that a person was shown: what is approved is what is deleted.
    Column("items_digest", String(64)),
    # When its share of failures was last looked at.
    Column("checked_at", Moment),
    # When its items were dropped because of their age.
    Column("pruned_at", Moment),
    # When its batches were last set free to be claimed: it was planned, or resumed.
    Column("released_at", Moment),
    Index("jobs_by_parent", "parent"),
    Index(
        "jobs_running",
        "target",
        "round",
        "seq",
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
    Index(
        "jobs_unfinished",
        "state",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    Index("jobs_owed", "seq", sqlite_where=text("owed"), postgresql_where=text("owed")),
    sqlite_autoincrement=True,
)

chunks = Table(
    "chunks",
    metadata,
    Column("job", Number, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("items", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    # Its first and last key, where its keys ascend.
    Column("lowest", Text),
    Column("highest", Text),
    sqlite_with_rowid=False,
)

#: The most places of a page. Stores hold such pages: it is never made larger.
PLACES_OF_A_PAGE = 1_000

#: A job's items, many places a row; pages of a job have no place in common.
pages = Table(
    "pages",
    metadata,
    Column("job", Number, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    # How many items lie in it: duplicates leave holes. And how many have a key:
    # one that was refused at the door has none.
    Column("items", Integer, nullable=False),
    Column("keyed", Integer, nullable=False),
    # Of the texts, without the ends of their lines.
    Column("bytes", Integer, nullable=False),
    # A line a place; 16 bytes a place.
    Column("texts", Text, nullable=False),
    Column("keys", LargeBinary, nullable=False),
)

#: The first eight bytes of every key: a row for each of 64 parts of what landed together.
prints = Table(
    "prints",
    metadata,
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    Column("job", Number, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("prints", LargeBinary, nullable=False),
)

#: Counts of a range's strays: one column a verdict, and one for the open ones.
STRAY_COLUMNS = {verdict: f"strays_{verdict.value}" for verdict in Verdict}
OPEN_STRAYS = "strays_open"
#: The same of a row that was read, and whose counts they are: None of the open ones.
counts_of_strays = attrgetter(*STRAY_COLUMNS.values(), OPEN_STRAYS)
STRAY_VERDICTS: tuple[Verdict | None, ...] = (*STRAY_COLUMNS, None)

batches = Table(
    "batches",
    metadata,
    Column("job", Number, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    # How many items lie in it: duplicates leave holes.
    Column("items", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    Column("not_before", Moment, nullable=False, default=EPOCH),
    Column("lease", Number),
    Column("failures", Integer, nullable=False, default=0),
    # The most batches that its next call may hold.
    Column("company", Integer),
    Column("told_to_wait", Length, nullable=False, default=timedelta()),
    # Whether it is the right part of a split.
    Column("is_half", Boolean, nullable=False, default=False),
    *_mark_columns(),
    *(Column(name, Integer, nullable=False, default=0) for name in STRAY_COLUMNS.values()),
    Column(OPEN_STRAYS, Integer, nullable=False, default=0),
    Index(
        "batches_ready",
        "job",
        "not_before",
        "first",
        sqlite_where=text("state = 'ready'"),
        postgresql_where=text("state = 'ready'"),
    ),
    Index(
        "batches_leased",
        "lease",
        sqlite_where=text("lease IS NOT NULL"),
        postgresql_where=text("lease IS NOT NULL"),
    ),
    Index("batches_by_verdict", "job", "verdict", "first"),
    sqlite_with_rowid=False,
)

#: How many items of a range have an outcome of their own, or are open by themselves.
STRAYED: ColumnElement[int] = sum(
    (batches.c[name] for name in STRAY_COLUMNS.values()), batches.c[OPEN_STRAYS]
)
#: How many items of a range have no outcome.
OPEN_ITEMS: ColumnElement[int] = (
    case((batches.c.verdict.is_(None), batches.c["items"] - STRAYED), else_=0)
    + batches.c[OPEN_STRAYS]
)

strays = Table(
    "strays",
    metadata,
    Column("job", Number, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    *_mark_columns(),
    sqlite_with_rowid=False,
)

breaches = Table(
    "breaches",
    metadata,
    Column("job", Number, primary_key=True, autoincrement=False),
    Column("breach", String(32), primary_key=True),
    Column("times", BigInteger, nullable=False),
    # The first ten messages, as a JSON list.
    Column("first_ten", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("job", String(36)),
    Column("target", String(64)),
    Column("os_user", Text),
    Column("by", Text),
    Column("detail", Text, nullable=False),
    Index("events_by_job", "job", "id"),
    sqlite_autoincrement=True,
)

purges = Table(
    "purges",
    metadata,
    Column("name", String(64), primary_key=True),
    # Of its target's fingerprint and its query, as it is configured now.
    Column("digest", String(64), nullable=False),
    # The digest that a person approved.
    Column("approved", String(64)),
    # When it was first seen: nothing before is due.
    Column("registered_at", Moment, nullable=False),
    # The last due moment that was decided.
    Column("due_at", Moment),
)

purge_runs = Table(
    "purge_runs",
    metadata,
    Column("purge", String(64), primary_key=True),
    Column("due_at", Moment, primary_key=True),
    # None where nothing was begun; the outcome says why.
    Column("job", String(36)),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text),
    Column("by_hand", Boolean, nullable=False, default=False),
    Column("created_at", Moment, nullable=False),
)

#: Keys that must stay.
protected = Table(
    "protected",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("key", LargeBinary(16), primary_key=True),
    # As it was given, for whoever lists them.
    Column("item", Text, nullable=False),
    Column("reason", Text),
    Column("until", Moment),
    Column("os_user", Text),
    Column("by", Text),
    Column("created_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)

#: Counts that only grow: one column a verdict, an answer, a length of calls.
ITEM_TOTALS = {verdict: f"items_{verdict.value}" for verdict in Verdict}
CALL_TOTALS = {answer: f"calls_{answer.value}" for answer in Answer}
LENGTH_TOTALS = (
    *(f"calls_of_{bound // timedelta(milliseconds=1)}_ms" for bound in BOUNDS),
    "calls_of_more",
)

#: What has become of each target's items and calls. Several rows a target, that
#: are added up when they are read: those who write one need not wait for those
#: who write another.
totals = Table(
    "totals",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    # Batches that are ready or leased: more come and fewer are left.
    Column("open_batches", BigInteger, nullable=False, server_default=text("0")),
    *(
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in (*ITEM_TOTALS.values(), *CALL_TOTALS.values(), *LENGTH_TOTALS)
    ),
    # The lengths of all calls together.
    Column("microseconds", BigInteger, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)

#: When somebody last looked for work that nobody was told of, and, in the
#: second row, when the clock last ticked.
looks = Table(
    "looks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
)


def insertion(table: Table, parameter: str) -> str:
    """The statement that inserts one row, for a driver whose parameters look so."""
    names = ", ".join(column.name for column in table.c)
    values = ", ".join([parameter] * len(table.c))
    return f"INSERT INTO {table.name} ({names}) VALUES ({values})"  # noqa: S608
