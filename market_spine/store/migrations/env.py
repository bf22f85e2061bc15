"""Alembic's entry point: runs on the connection that `store.control` hands over, inside its transaction."""

from alembic import context

from market_spine.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
