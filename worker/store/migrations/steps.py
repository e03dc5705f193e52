"""Alembic's part: the steps from one migration to the next."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Run the steps that are missing, in the caller's transaction."""
    command.upgrade(_config(connection), "head")


def known() -> set[str]:
    """All migrations that this program knows."""
    return {script.revision for script in _script().walk_revisions()}


def head() -> str:
    """The last of them."""
    return str(_script().get_current_head())


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(None))


def _config(connection: Connection | None) -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
