"""The view `outcomes`: one row per item, for people and their tools."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

#: Milliseconds since 1970 as a moment that people can read.
_MOMENT = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1000.0, 'unixepoch')",
    "postgresql": "to_timestamp({0} / 1000.0)",
}

# A stray's row holds for its item, else that of the last range at or before it.
_VIEW = """
CREATE VIEW outcomes AS
SELECT j.id AS job, j.target AS target, i.position AS position, i.item AS item,
       CASE WHEN s.job IS NULL THEN b.verdict ELSE s.verdict END AS verdict,
       CASE WHEN s.job IS NULL THEN b.evidence ELSE s.evidence END AS evidence,
       CASE WHEN s.job IS NULL THEN b.code ELSE s.code END AS code,
       CASE WHEN s.job IS NULL THEN b.message ELSE s.message END AS message,
       CASE WHEN s.job IS NULL THEN b.calls ELSE s.calls END AS attempts,
       {decided_at} AS decided_at
FROM items i
JOIN jobs j ON j.seq = i.job
LEFT JOIN batches b ON b.job = i.job AND b.first = (
    SELECT max(r.first) FROM batches r WHERE r.job = i.job AND r.first <= i.position
)
LEFT JOIN strays s ON s.job = i.job AND s.position = i.position
"""


def upgrade() -> None:
    """Make the view."""
    moment = "CASE WHEN s.job IS NULL THEN b.decided_at ELSE s.decided_at END"
    decided_at = _MOMENT[op.get_bind().dialect.name].format(moment)
    op.execute(sa.text(_VIEW.format(decided_at=decided_at).replace(":", r"\:")))
