"""Which adapter wrote an answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # A default in the database: a gateway of the version before may still be writing.
    op.add_column("finished", sa.Column("adapter", sa.Text, nullable=False, server_default=""))
