"""Labelling tasks in three tiers: projects, tasks, answers and moves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

CURRENT = sa.text("ended IS NULL")


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "tier_projects",
        sa.Column("project", sa.String(100), primary_key=True),
        sa.Column("token", sa.Integer, nullable=False),
    )
    op.create_table(
        "tier_tasks",
        sa.Column("task", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("project", sa.String(100), sa.ForeignKey("tier_projects.project"), nullable=False),
        sa.Column("sample", sa.String(200), nullable=False),
        *_texts("gold", "state", "label"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.UniqueConstraint("project", "sample", name="each_sample_once"),
    )
    op.create_table(
        "tier_answers",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("task", sa.Integer, sa.ForeignKey("tier_tasks.task"), nullable=False, index=True),
        *_texts("tier"),
        sa.Column("person", sa.String(200), nullable=False),
        *_texts("label", "why"),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("source", sa.String(100)),
        sa.Column("stamp", sa.String(100)),
        sa.Column("ended", sa.Float(53)),
        *_texts("ended_why"),
        sa.UniqueConstraint("source", "stamp", name="each_edit_once"),
    )
    op.create_index(
        "one_answer_each",
        "tier_answers",
        ["task", "person"],
        unique=True,
        sqlite_where=CURRENT,
        postgresql_where=CURRENT,
    )
    op.create_table(
        "tier_moves",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("task", sa.Integer, sa.ForeignKey("tier_tasks.task"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("source", sa.Text),
        *_texts("target", "kind", "label"),
        sa.Column("time", sa.Float(53), nullable=False),
        *_texts("who", "why"),
        sa.UniqueConstraint("task", "version", name="each_task_version_once"),
    )
