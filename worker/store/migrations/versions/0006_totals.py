"""What has become of each target's items and calls, and since when a job's batches are free."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

VERDICTS = (
    "deleted",
    "absent",
    "accepted",
    "denied",
    "rejected",
    "failed",
    "unknown",
    "skipped",
)
ANSWERS = (
    "ok",
    "refused",
    "rate_limited",
    "transient",
    "lost",
    "no_connection",
    "hopeless",
    "paced",
    "broken",
)
LENGTHS = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000),
)

_STRAYED = " + ".join(f"b.strays_{verdict}" for verdict in (*VERDICTS, "open"))
_ITEMS = ", ".join(
    f"sum(b.strays_{verdict} + CASE WHEN b.verdict = '{verdict}'"
    f" THEN b.items - ({_STRAYED}) ELSE 0 END)"
    for verdict in VERDICTS
)
_NAMES = ", ".join(f"items_{verdict}" for verdict in VERDICTS)
#: One row a target, from the counts of its batches: no item is read.
ADD_UP = f"""
INSERT INTO totals (target, part, open_batches, {_NAMES})
SELECT j.target, 0, sum(CASE WHEN b.state = 'done' THEN 0 ELSE 1 END), {_ITEMS}
FROM batches b JOIN jobs j ON j.seq = b.job GROUP BY j.target
"""  # noqa: S608 (made of the constants above)


def upgrade() -> None:
    """Make the table, with what has become of the items so far; calls were not counted."""
    names = (
        "open_batches",
        *(f"items_{verdict}" for verdict in VERDICTS),
        *(f"calls_{answer}" for answer in ANSWERS),
        *(f"calls_of_{length}_ms" for length in LENGTHS),
        "calls_of_more",
        "microseconds",
    )
    op.create_table(
        "totals",
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
            for name in names
        ),
        sa.PrimaryKeyConstraint("target", "part"),
        sqlite_with_rowid=False,
    )
    op.execute(ADD_UP)
    op.add_column("jobs", sa.Column("released_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE jobs SET released_at = started_at WHERE finished_at IS NULL")
