"""Alembic's entry: migrates the connection that `components.events.database` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from components.events.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
