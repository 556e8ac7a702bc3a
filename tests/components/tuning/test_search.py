"""A search keeps finished trials, goes on after an interruption as if there was none, and trains in its own process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from components.config.document import read_yaml, write_yaml
from components.stage import StageError
from components.tuning.search import TrialError, search, training
from components.tuning.space import Space, Uniform

SPACE: Space = {"learning_rate": Uniform(0.0, 1.0)}
# A stand-in for a training stage: it reads its folder's params.yaml and writes the loss, as the real ones do.
STAGE = """
import json, pathlib, sys
from ruamel.yaml import YAML
train = YAML(typ="safe").load(pathlib.Path("params.yaml"))["train"]["toy"]
if train["learning_rate"] > train["limit"]:
    sys.exit("error: the loss is not finite")
assert pathlib.Path("data/samples").read_text() == "samples"
metrics = pathlib.Path("metrics/toy")
metrics.mkdir(parents=True)
(metrics / "train.json").write_text(json.dumps({"validation_loss": train["learning_rate"] * train["max_steps"]}))
"""


def quadratic(parameters: Mapping[str, float]) -> float:
    return (parameters["learning_rate"] - 0.3) ** 2


def validation_loss(metrics: Mapping[str, float]) -> float:
    return metrics["validation_loss"]


def run_search(state: Path, objective: object = quadratic, trials: int = 5) -> object:
    return search(SPACE, objective, line="toy", measured="loss", trials=trials, seed=7, state=state)  # type: ignore[arg-type]


def test_an_interrupted_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    calls = 0

    def interrupted(parameters: Mapping[str, float]) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return quadratic(parameters)

    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path / "state.json", interrupted)
    assert run_search(tmp_path / "state.json", interrupted) == run_search(tmp_path / "other.json")
    assert calls == 6  # three before the interruption, the one that was interrupted, two after


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    def fragile(parameters: Mapping[str, float]) -> float:
        if parameters["learning_rate"] > 0.5:
            raise TrialError("out of memory")
        return quadratic(parameters)

    found = search(SPACE, fragile, line="toy", measured="loss", trials=8, seed=7, state=tmp_path / "state.json")
    failed = [trial for trial in found.trials if trial.status == "failed"]
    assert failed
    assert {trial.error for trial in failed} == {"out of memory"}
    assert found.best.parameters["learning_rate"] <= 0.5


def project(folder: Path, limit: float) -> Path:
    """A project folder with one training stage, `components.training.toy`, its data and its parameters."""
    stage = folder / "components" / "training" / "toy.py"
    stage.parent.mkdir(parents=True)
    for package in (stage.parent, stage.parent.parent):
        (package / "__init__.py").touch()  # or another `components` on Python's path would come before it
    stage.write_text(STAGE)
    (folder / "data").mkdir()
    (folder / "data" / "samples").write_text("samples")
    train = {"toy": {"learning_rate": 1.0, "max_steps": 100, "limit": limit}}
    write_yaml(folder / "params.yaml", {"train": train, "other": {"kept": True}})
    return folder / "params.yaml"


def test_a_trial_trains_in_its_own_folder_with_its_own_parameters(tmp_path: Path) -> None:
    params = project(tmp_path, limit=1.0)
    assert training("toy", 20, tmp_path, params, validation_loss)({"learning_rate": 0.5}) == 10.0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".atelier", "components", "data", "params.yaml"]


def test_a_trial_finds_the_model_that_was_brought_and_what_was_computed_of_it(tmp_path: Path) -> None:
    params = project(tmp_path, limit=1.0)
    stage = tmp_path / "components/training/toy.py"
    stage.write_text(
        STAGE + 'pathlib.Path(".atelier/cache/latents").touch()\nassert pathlib.Path("models/mine/index").is_file()\n'
    )
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "models/mine/index").touch()
    document = read_yaml(params) | {"base": {"toy": {"model": "./models/mine"}}}
    write_yaml(params, document)
    assert training("toy", 20, tmp_path, params, validation_loss)({"learning_rate": 0.5}) == 10.0
    assert (tmp_path / ".atelier/cache/latents").is_file()


def test_a_trial_that_fails_says_what_the_training_said(tmp_path: Path) -> None:
    params = project(tmp_path, limit=0.1)
    objective = training("toy", 20, tmp_path, params, validation_loss)
    with pytest.raises(TrialError, match=r"^the loss is not finite$"):
        objective({"learning_rate": 0.5})
    assert issubclass(TrialError, StageError)
