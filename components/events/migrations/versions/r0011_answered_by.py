"""Which deployment answered a request: after a fallback not the one that was asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # A default in the database: a gateway of the version before may still be writing.
    op.add_column("finished", sa.Column("answered_by", sa.Text, nullable=False, server_default=""))
