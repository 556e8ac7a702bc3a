"""Experiments: every version of each, with the places of its users and variants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("experiment", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("places", sa.JSON, nullable=False),
        sa.Column("time", sa.Float(53), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("who", "why")),
        sa.UniqueConstraint("experiment", "version", name="each_experiment_version_once"),
    )
