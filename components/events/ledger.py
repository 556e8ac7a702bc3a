"""Changes on record: each a row that says who made it, when and why, and none made on a state that has changed since.

Used by what people and programs change together: releases, experiments and labelling tasks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, insert, select

from components.events.schema import storable
from components.stage import StageError


class OvertakenError(StageError):
    """Somebody else made a change after the state was read, and nothing of this transaction is recorded."""


@dataclass(frozen=True)
class Note:
    """Who makes a change, why, and what it rests on (a JSON object)."""

    who: str
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """A table to which changes are only added; it has the columns `time`, `who` and `why`.

    `number` counts the changes, of one subject or of all; `subject` names what a row changed, and `shown_by` is the
    command that shows it.
    """

    number: Column[int]
    subject: Column[str]
    shown_by: str

    def append(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]], note: Note, at: float | None = None
    ) -> None:
        """Add rows that the note signs, as of now or of `at` (epoch s)."""
        signed = {"time": time.time() if at is None else at, "who": storable(note.who), "why": storable(note.why)}
        connection.execute(insert(self.number.table), [{**row, **signed} for row in rows])

    def require_newest(self, connection: Connection, seen: int | None, subject: str | None = None) -> None:
        """Raise `OvertakenError` unless the newest number, of one subject or of all, is still the one that was seen.

        From then on nobody else adds to the ledger until the transaction ends.
        """
        ledger = self.number.table
        if connection.dialect.name == "postgresql":  # SQLite's writers come one after another anyway
            connection.exec_driver_sql(f"LOCK TABLE {ledger} IN SHARE ROW EXCLUSIVE MODE")
        rows = select(ledger).where(*([self.subject == subject] if subject else []))
        newest = connection.execute(rows.order_by(self.number.desc()).limit(1)).mappings().first()
        if newest is not None and newest[self.number] != seen:
            raise OvertakenError(
                f"{newest[self.subject]} was changed meanwhile, by {newest['who']}: {newest['why']}. Nothing of this "
                f"is recorded: look at `{self.shown_by}`, and repeat it if it is still right"
            )
