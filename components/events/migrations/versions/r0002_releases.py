"""Releases, their moves and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

CHAMPION = sa.text("state IN ('champion')")
ON_TRIAL = sa.text("state IN ('shadow', 'canary_1', 'canary_5', 'canary_25', 'canary_50', 'ab')")


def upgrade() -> None:
    op.create_table(
        "releases",
        sa.Column("release", sa.String(250), primary_key=True),
        sa.Column("line", sa.Text, nullable=False),
        sa.Column("deployment", sa.String(200), sa.ForeignKey("deployments.deployment"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
    )
    for name, where in (("one_champion", CHAMPION), ("one_on_trial", ON_TRIAL)):
        op.create_index(name, "releases", ["line"], unique=True, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "moves",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("release", sa.String(250), sa.ForeignKey("releases.release"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("source", sa.Text),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("target", "kind")),
        sa.Column("time", sa.Float(53), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("who", "why")),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.UniqueConstraint("release", "version", name="each_version_once"),
    )
    leases = op.create_table(
        "leases",
        sa.Column("line", sa.String(50), primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("expires", sa.Float(53), nullable=False),
    )
    # One row per line from the start: only a row that exists can be locked by the first two drivers.
    op.bulk_insert(leases, [{"line": line, "holder": "", "token": 0, "expires": 0.0} for line in ("text", "image")])
