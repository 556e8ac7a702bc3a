"""Whether an answer ended at its client's own bound."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # A default in the database: a gateway of the version before may still be writing.
    op.add_column("finished", sa.Column("cut", sa.Boolean, nullable=False, server_default=sa.false()))
