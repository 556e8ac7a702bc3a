"""Calls to candidates whose answers reached nobody."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "trials",
        sa.Column("request_id", sa.String(250), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("time", sa.Float(53), nullable=False, index=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("line", "deployment", "reason")),
        sa.Column("latency_s", sa.Float(53), nullable=False),
    )
