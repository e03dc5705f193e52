"""Jobs by query: what is to be found, what it was frozen to, and when it was found."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; jobs that are there have items of their own."""
    op.add_column("jobs", sa.Column("query", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("frozen", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("found_at", sa.BigInteger(), nullable=True))
    op.add_column(
        "jobs", sa.Column("finds", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column(
        "jobs",
        sa.Column("needs_approval", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
