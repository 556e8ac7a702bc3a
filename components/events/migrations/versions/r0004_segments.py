"""Segments of users, and when reactions were received. After 0005, which databases have already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Defaults in the database: a gateway of the version before may still be writing.
    op.add_column("accepted", sa.Column("segments", sa.Text, nullable=False, server_default="{}"))
    op.add_column("feedback", sa.Column("received", sa.Float(53), nullable=False, server_default="0"))
    op.add_column("feedback", sa.Column("clock", sa.Text, nullable=False, server_default=""))
