"""Phrases for annotators and what they wrote; how many messages a request had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("accepted", sa.Column("messages", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "label_tasks",
        sa.Column("task", sa.String(32), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("phrase", "written", "why")),
        sa.Column("time", sa.Float(53), nullable=False, index=True),
    )
    op.create_table(
        "label_answers",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("task", sa.String(32), sa.ForeignKey("label_tasks.task"), nullable=False, index=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("completion", "annotator")),
        sa.Column("time", sa.Float(53), nullable=False),
    )
