"""Two answers to one phrase that people compare."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "comparisons",
        sa.Column("sample", sa.String(32), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("phrase", "left", "right")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("left_origin", "right_origin")),
    )
