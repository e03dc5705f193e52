"""The first and last key of a chunk whose keys ascend: no two of such a job are compared."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Chunks that are there already have none, and their jobs are looked through as before."""
    op.add_column("chunks", sa.Column("lowest", sa.Text()))
    op.add_column("chunks", sa.Column("highest", sa.Text()))
