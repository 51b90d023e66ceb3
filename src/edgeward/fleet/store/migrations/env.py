"""What Alembic runs: the steps, on the connection that ``store.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from edgeward.fleet.store.models import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=False
)
# The transaction is the caller's: every step and the mark of the last one are committed together.
context.run_migrations()
