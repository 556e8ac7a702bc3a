"""Answers that are computed again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "rechecks",
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("time", sa.Float(53), nullable=False, index=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("line", "deployment", "adapter", "job", "answer")),
        sa.Column("verdict", sa.String(20), nullable=False, server_default="", index=True),
        sa.Column("judged", sa.Float(53), nullable=False, server_default="0"),
        sa.Column("measured", sa.Text, nullable=False, server_default="{}"),
    )
