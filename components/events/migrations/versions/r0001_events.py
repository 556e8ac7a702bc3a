"""Events and deployments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accepted",
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("time", sa.Float(53), nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("user_key", "line", "deployment", "model", "experiment", "variant")
        ),
        sa.Column("propensity", sa.Float(53), nullable=False),
    )
    op.create_table(
        "finished",
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("latency_s", sa.Float(53), nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("batch_size", sa.Integer, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
    )
    op.create_table(
        "feedback",
        sa.Column("key", sa.String(300), primary_key=True),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("user_key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
    )
    op.create_table(
        "deployments",
        sa.Column("deployment", sa.String(200), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("line", "digest", "model", "version", "bento")),
        sa.Column("time", sa.Float(53), nullable=False),
    )
    for table in ("accepted", "finished", "feedback", "deployments"):
        op.create_index(f"ix_{table}_time", table, ["time"])
    op.create_index("ix_feedback_request_id", "feedback", ["request_id"])
