"""Alembic's entry point: runs on the connection that `store.control` hands over, inside its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
