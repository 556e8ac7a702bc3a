"""What can be seen of the proof without running it: that it spares the project, and reads its own evidence rightly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.config import load
from components.releases.machine import Kind, State
from components.releases.schema import Move
from components.stage import StageError
from flows.demo import proof


def test_it_refuses_to_run_where_it_would_delete_what_was_learned() -> None:
    with pytest.raises(StageError, match="is no workspace of a proof"):
        proof.proof(load())


def test_every_change_is_of_a_parameter_that_exists() -> None:
    params = load().model_dump()
    assert all(params[section].keys() >= values.keys() for section, values in proof.CHANGES.items())


def test_a_release_that_was_champion_before_is_told_of_once() -> None:
    def move(release: str, target: State) -> Move:
        return Move(release, 1, None, target, Kind.STEP, 0.0, "ada", "why", {}, 1)

    moves = [
        move("text-a.1", State.CHAMPION),
        move("text-ab.1", State.CHAMPION),
        move("text-a.1", State.RETIRED),
        move("text-a.2", State.SHADOW),
        move("text-a.2", State.ROLLED_BACK),
    ]
    assert [m.target for m in proof.moves_of_newest("text-a", moves)] == [State.SHADOW, State.ROLLED_BACK]


def test_the_prompts_drift_is_read_from_the_report(tmp_path: Path) -> None:
    drifts = [{"name": "text outputs", "severity": "act"}, {"name": "text prompts", "severity": "watch"}]
    (tmp_path / "report.json").write_text(json.dumps({"drift": drifts}))
    assert proof.prompts_drift(tmp_path / "report.html")["severity"] == "watch"


def test_a_share_is_told_with_its_interval_and_number() -> None:
    assert proof.described(np.array([0.0, 1.0, 1.0, 0.0])) == "50.0% [0.0%, 100.0%] of 4 users"
