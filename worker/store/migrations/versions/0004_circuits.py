"""Circuits of targets, and how long a lease is at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; leases that are there count as half a minute long."""
    for name in ("failing", "openings"):
        column = sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text("0"))
        op.add_column("targets", column)
    op.add_column(
        "leases",
        sa.Column("lasting", sa.BigInteger(), nullable=False, server_default=sa.text("30000")),
    )
