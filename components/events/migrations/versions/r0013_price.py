"""What a deployment's provider takes for a million tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    # A default in the database: a release of the version before may still be writing.
    op.add_column("deployments", sa.Column("price", sa.Text, nullable=False, server_default="{}"))
