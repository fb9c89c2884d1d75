"""Alembic's entry: runs on the connection that agrenting/db/migrate.py hands over."""

from alembic import context

from agrenting.db.watched_tables import metadata  # With the tables that these build on, all of them.

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
