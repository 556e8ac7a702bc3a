"""What Label Studio shows of labelling tasks, and how far a project was read and its next samples chosen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("tier_projects", sa.Column("read_until", sa.Text, nullable=False, server_default=""))
    op.add_column("tier_projects", sa.Column("chosen_at", sa.Integer, nullable=False, server_default="-1"))
    op.add_column("tier_projects", sa.Column("outlook", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "tier_shown",
        sa.Column("task", sa.Integer, sa.ForeignKey("tier_tasks.task"), primary_key=True, autoincrement=False),
        sa.Column("remote", sa.Integer, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
