"""A search's file holds its best trial and reads back; a search without a success says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.stage import StageError
from components.tuning.trials import Search, Trial, read_search, write_search


def trial(number: int, loss: float | None) -> Trial:
    status = {"status": "ok"} if loss is not None else {"status": "failed", "error": "no memory"}
    return Trial.model_validate({"number": number, "parameters": {"rate": 0.1 * number}, "loss": loss, **status})


def test_the_best_trial_stands_on_top_and_the_file_reads_back(tmp_path: Path) -> None:
    search = Search(line="image", seed=7, objective="loss", trials=(trial(0, 2.0), trial(1, None), trial(2, 1.0)))
    write_search(tmp_path / "tune.json", search)
    assert json.loads((tmp_path / "tune.json").read_text())["best_number"] == 2
    assert read_search(tmp_path / "tune.json") == search


def test_a_search_whose_trials_all_failed_says_why_and_writes_nothing(tmp_path: Path) -> None:
    search = Search(line="image", seed=7, objective="loss", trials=(trial(0, None), trial(1, None)))
    with pytest.raises(StageError, match="all 2 trials of the image line failed: no memory"):
        write_search(tmp_path / "tune.json", search)
    assert not (tmp_path / "tune.json").exists()


@pytest.mark.parametrize("content", ["{", "{}", '{"line": 1, "seed": 1, "objective": "", "trials": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tune.json").write_text(content)
    with pytest.raises(StageError, match=r"tune\.json: not the result of a search"):
        read_search(tmp_path / "tune.json")
