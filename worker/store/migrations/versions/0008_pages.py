"""Many items a row: pages of texts and keys, and prints to find a key by."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

PLACES = 1_000
LANDED = 10_000
NO_KEY = bytes(16)

#: Milliseconds since 1970 as a moment that people can read.
_MOMENT = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1000.0, 'unixepoch')",
    "postgresql": "to_timestamp({0} / 1000.0)",
}

#: The lines of a page, each with its number from 0. What SQLite reads is a list
#: of texts, since it would round the numbers of one of items.
_LINES = {
    "sqlite": (
        "JOIN json_each('[\"' || replace(replace(replace(p.texts, '\\', '\\\\'), '\"', '\\\"'),"
        " char(10), '\",\"') || '\"]') i"
    ),
    "postgresql": (
        "CROSS JOIN LATERAL (SELECT t.value, t.number - 1 AS key"
        " FROM unnest(string_to_array(p.texts, chr(10))) WITH ORDINALITY AS t (value, number)) i"
    ),
}

# A stray's row holds for its item, else that of the last range at or before it.
_VIEW = """
CREATE VIEW outcomes AS
SELECT j.id AS job, j.target AS target, p.first + i.key AS position, i.value AS item,
       CASE WHEN s.job IS NULL THEN b.verdict ELSE s.verdict END AS verdict,
       CASE WHEN s.job IS NULL THEN b.evidence ELSE s.evidence END AS evidence,
       CASE WHEN s.job IS NULL THEN b.code ELSE s.code END AS code,
       CASE WHEN s.job IS NULL THEN b.message ELSE s.message END AS message,
       CASE WHEN s.job IS NULL THEN b.calls ELSE s.calls END AS attempts,
       {decided_at} AS decided_at
FROM pages p
JOIN jobs j ON j.seq = p.job
{lines}
LEFT JOIN batches b ON b.job = p.job AND b.first = (
    SELECT max(r.first) FROM batches r WHERE r.job = p.job AND r.first <= p.first + i.key
)
LEFT JOIN strays s ON s.job = p.job AND s.position = p.first + i.key
WHERE i.value <> ''
"""

_PAGE = sa.text(
    'INSERT INTO pages (job, "first", "last", items, keyed, bytes, texts, keys)'
    " VALUES (:job, :first, :last, :items, :keyed, :bytes, :texts, :keys)"
)
_PRINTS = sa.text(
    'INSERT INTO prints (part, job, "first", "last", prints)'
    " VALUES (:part, :job, :first, :last, :prints)"
)
_SOME = sa.text(
    "SELECT position, item, key FROM items WHERE job = :job AND position >= :first"
    " AND position < :beyond ORDER BY position"
)
_NEXT = sa.text("SELECT min(position) FROM items WHERE job = :job AND position >= :first")


def upgrade() -> None:
    """Make the tables, move what there is, a job at a time, and drop the rows of single items."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "pages",
        sa.Column("job", number, primary_key=True, autoincrement=False),
        sa.Column("first", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("keyed", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("texts", sa.Text(), nullable=False),
        sa.Column("keys", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "prints",
        sa.Column("part", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("job", number, primary_key=True, autoincrement=False),
        sa.Column("first", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("prints", sa.LargeBinary(), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Ids hardly get smaller, and trying takes as long as all else that is done with a page.
        op.execute("ALTER TABLE pages ALTER COLUMN texts SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE pages ALTER COLUMN keys SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE prints ALTER COLUMN prints SET STORAGE EXTERNAL")
    jobs = op.get_bind().execute(sa.text("SELECT seq, state, chunk_items FROM jobs")).all()
    for job, state, chunk_items in jobs:
        # What lands later has pages and prints of its own, and none of this may reach into it.
        _move(job, together=chunk_items if state == "open" else LANDED)
    op.execute("DROP VIEW outcomes")
    op.drop_table("items")
    dialect = op.get_bind().dialect.name
    moment = "CASE WHEN s.job IS NULL THEN b.decided_at ELSE s.decided_at END"
    view = _VIEW.format(decided_at=_MOMENT[dialect].format(moment), lines=_LINES[dialect])
    op.get_bind().exec_driver_sql(view)


def _move(job: int, *, together: int) -> None:
    """Move one job's items, so many places at once."""
    connection, beyond = op.get_bind(), 0
    while (first := connection.execute(_NEXT, {"job": job, "first": beyond}).scalar()) is not None:
        beyond = (first // together + 1) * together
        rows = connection.execute(_SOME, {"job": job, "first": first, "beyond": beyond}).all()
        for page in _pages(rows):
            connection.execute(_PAGE, {"job": job, **page})
        place = {"job": job, "first": first, "last": rows[-1].position}
        for some in _prints(rows):
            connection.execute(_PRINTS, {**place, **some})


def _pages(rows: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The same places, up to a thousand a row; a page is at most 256 KiB where it may be."""
    some: list[Any] = []
    size = 0
    for row in rows:
        length = len(row.item)
        if some and (row.position - some[0].position >= PLACES or size + length > 256 * 1024):
            yield _page(some)
            some, size = [], 0
        some.append(row)
        size += length
    if some:
        yield _page(some)


def _page(rows: Sequence[Any]) -> dict[str, Any]:
    first, last = rows[0].position, rows[-1].position
    texts, keys = [""] * (last - first + 1), [NO_KEY] * (last - first + 1)
    for row in rows:
        texts[row.position - first] = row.item
        keys[row.position - first] = bytes(row.key) if row.key is not None else NO_KEY
    return {
        "first": first,
        "last": last,
        "items": len(rows),
        "keyed": sum(row.key is not None for row in rows),
        "bytes": sum(map(len, texts)),
        "texts": "\n".join(texts),
        "keys": b"".join(keys),
    }


def _prints(rows: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The first eight bytes of the keys, in parts by the first six bits."""
    prints = sorted(bytes(row.key)[:8] for row in rows if row.key is not None)
    edges = [bisect_left(prints, bytes([part << 2])) for part in range(64)] + [len(prints)]
    for part in range(64):
        if some := prints[edges[part] : edges[part + 1]]:
            yield {"part": part, "prints": b"".join(some)}
