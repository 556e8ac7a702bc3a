"""An objective sees all that is searched for it: what a parameter is there for changes what the search makes small."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from components.config import Line, load
from components.tuning import search
from components.tuning.search import measure, training
from components.tuning.space import SPACES
from tests.components.training.layouts import set_parameters, train_here, write_project

STEPS = 20
# For each line one trial, and for each parameter of its space another value.
TRIALS: dict[Line, tuple[dict[str, float], dict[str, float]]] = {
    "image": (
        {"learning_rate": 1e-2, "lora_rank": 16, "caption_dropout": 0.05},
        {"learning_rate": 1e-3, "lora_rank": 4, "caption_dropout": 0.3},
    ),
    "text": ({"learning_rate": 5e-3, "lora_rank": 8}, {"learning_rate": 5e-4, "lora_rank": 4}),
}


@pytest.fixture(params=TRIALS)
def trial(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Line, search.Objective]:
    """A line and its objective, whose trials train in this process to save the imports."""
    line: Line = request.param
    project = write_project(tmp_path, line)
    (project / "components").mkdir(exist_ok=True)
    set_parameters(project, line)
    monkeypatch.setattr(search, "train", lambda line, folder: train_here(folder, line, monkeypatch))
    loss = measure(line, load().serving.image_guidance)[1]
    return line, training(line, STEPS, project, project / "params.yaml", loss)


def test_5_the_objective_sees_every_parameter_of_its_space(trial: tuple[Line, search.Objective]) -> None:
    line, objective = trial
    parameters, others = TRIALS[line]
    assert parameters.keys() == others.keys() == SPACES[line].keys()
    loss = objective(parameters)
    for name, other in others.items():
        assert abs(objective({**parameters, name: other}) - loss) > 1e-6, name


def test_5_the_image_objective_sees_what_guidance_is_made_of() -> None:
    """Who has forgotten what pictures without a caption look like is worse, the more so the more guidance there is."""

    def loss(uncaptioned: float, guidance: float = load().serving.image_guidance) -> float:
        metrics: Mapping[str, float] = {"validation_loss": 0.2, "validation_loss_uncaptioned": uncaptioned}
        return measure("image", guidance)[1](metrics)

    assert loss(0.2) == pytest.approx(0.2)
    assert loss(0.4) - loss(0.2) > loss(0.4, guidance=2.0) - loss(0.2, guidance=2.0) > 0.01
    assert loss(0.4, guidance=1.0) == pytest.approx(0.2)  # without guidance it is never asked
