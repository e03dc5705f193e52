"""When the calls of a lease are expected to have been made, so that all end together."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Leases that are there already count as nearly done."""
    op.add_column("leases", sa.Column("expected_end", sa.BigInteger()))
