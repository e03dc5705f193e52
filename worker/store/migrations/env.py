"""What Alembic runs: always inside the caller's connection and transaction."""

from alembic import context

from worker.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
