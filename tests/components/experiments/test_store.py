"""Experiments in a real database: what is declared comes into force once, and of two changes at once one wins."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from components.events.database import DatabaseError, opened
from components.events.ledger import Note, OvertakenError
from components.experiments import store
from components.experiments.store import apply, reweigh
from components.experiments.versions import epochs, history, newest, running
from tests.components.experiments.examples import COLOURS, NOTE, changed


def weights(treatment: float) -> dict[str, Any]:
    arms = COLOURS.model_dump()["variants"]
    shares = {"control": 1 - treatment, "treatment": treatment}
    return {"variants": {name: arms[name] | {"weight": share} for name, share in shares.items()}}


def test_what_is_declared_is_in_force_once_and_every_change_is_kept(engine: Engine) -> None:
    assert apply(engine, [COLOURS], NOTE) == ["colours begins: 1 of text users; treatment 0.5, control 0.5"]
    assert apply(engine, [COLOURS], NOTE) == []
    other = Note("bob", "it is liked")
    assert apply(engine, [changed(**weights(0.6))], other) == [
        "colours changes: 1 of text users; control 0.4, treatment 0.6"
    ]
    first, second = history(engine, "colours")
    assert [(v.version, v.who, v.why) for v in (first, second)] == [(1, "ada", "to see"), (2, "bob", "it is liked")]
    assert [held["treatment"] for _, held in epochs([first, second])] == [0.5, 0.6]
    assert newest(engine) == running(engine) == [second]
    assert first.experiment == COLOURS  # whole, as it was declared


def test_thompson_s_weights_are_not_set_back_by_what_is_declared(engine: Engine) -> None:
    following = changed(policy="thompson")
    apply(engine, [following], NOTE)
    reweigh(engine, newest(engine), "colours", {"control": 0.31234, "treatment": 0.68766}, Note("thompson", "likes"))
    assert apply(engine, [following], NOTE) == []
    assert running(engine)[0].experiment.weights == {"control": 0.3123, "treatment": 0.6877}
    apply(engine, [COLOURS], NOTE)
    assert running(engine)[0].experiment.weights == COLOURS.weights


def test_of_two_changes_at_once_one_wins_and_the_other_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(engine, [COLOURS], NOTE)
    decide = store.changes

    def overtaken(*arguments: Any) -> Any:
        found = decide(*arguments)
        monkeypatch.undo()
        apply(engine, [changed(**weights(0.6))], Note("bob", "I was first"))
        return found

    monkeypatch.setattr(store, "changes", overtaken)
    with pytest.raises(OvertakenError, match="colours was changed meanwhile, by bob: I was first"):
        apply(engine, [changed(**weights(0.9))], NOTE)
    assert running(engine)[0].experiment.weights["treatment"] == 0.6


def test_of_many_at_once_every_one_that_wins_is_one_version(engine: Engine) -> None:
    apply(engine, [COLOURS], NOTE)

    def attempt(number: int) -> bool:
        try:
            return apply(engine, [changed(**weights(number / 20))], Note(f"p{number}", "mine")) != []
        except OvertakenError:
            return False

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, wins in enumerate(pool.map(attempt, range(1, 9)), start=1) if wins]
    versions = history(engine, "colours")
    assert sorted(version.who for version in versions[1:]) == sorted(f"p{number}" for number in won)
    assert [version.version for version in versions] == list(range(1, len(won) + 2))
    assert won


def test_a_locked_database_is_said_in_words_and_nothing_is_changed(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'events.db'}?timeout=0.2") as engine:
        apply(engine, [COLOURS], NOTE)
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            DatabaseError, match="change of colours is not recorded: another process keeps it locked; try"
        ):
            apply(engine, [changed(**weights(0.6))], NOTE)
        other.close()
        assert len(history(engine)) == 1
