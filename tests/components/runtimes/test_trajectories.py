"""Recorded inputs cover what service brings."""

from __future__ import annotations

import pytest

from components.config import load
from components.runtimes.image import Sampler
from components.runtimes.trajectories import requests_for, rows_there_are, split_rows, trajectory_inputs
from tests.conftest import ROOT
from tests.tiny_image import StraightBackend

SERVING = load(ROOT / "params.yaml").serving.model_copy(update={"image_steps": 5})


def test_rows_cover_all_steps_and_both_halves_of_guidance() -> None:
    inputs = trajectory_inputs(Sampler(StraightBackend(), 4), requests_for(["red", "red"], SERVING), count=20)
    assert len(set(inputs["time"].tolist())) == 5
    conditional = inputs["text"][:, 0, 0] == 1
    assert conditional.sum() == (~conditional).sum() == 10
    assert [len(row["latents"]) for row in split_rows(inputs)] == [1] * 20


def test_more_rows_than_trajectories_have_are_refused() -> None:
    with pytest.raises(ValueError, match="20 rows of inputs, fewer than 21"):
        trajectory_inputs(Sampler(StraightBackend(), 4), requests_for(["red", "red"], SERVING), count=21)


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_15_inputs_come_from_what_is_served(guidance: float) -> None:
    serving = SERVING.model_copy(update={"image_guidance": guidance})
    requests = requests_for(["red", "dog"], serving)
    assert {(request.steps, request.guidance) for request in requests} == {(5, guidance)}
    trajectory_inputs(Sampler(StraightBackend(), 4), requests, count=2 * rows_there_are(serving))
    with pytest.raises(ValueError, match=f"{2 * rows_there_are(serving)} rows of inputs"):
        trajectory_inputs(Sampler(StraightBackend(), 4), requests, count=2 * rows_there_are(serving) + 1)
