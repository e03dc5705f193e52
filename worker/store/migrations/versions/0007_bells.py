"""Bells apart from their targets, so that who rings need not wait for who claims."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Move the bells; what was rung may be rung again."""
    op.create_table(
        "bells",
        sa.Column("target", sa.String(64), primary_key=True),
        sa.Column("rung_at", sa.BigInteger()),
        sa.Column("answered_at", sa.BigInteger()),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO bells (target, rung_at, answered_at)"
        " SELECT name, rung_at, answered_at FROM targets"
    )
    op.drop_column("targets", "rung_at")
    op.drop_column("targets", "answered_at")
