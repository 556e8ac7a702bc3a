"""Recorded inputs cover what service brings."""

from __future__ import annotations

import pytest

from components.export.trajectories import requests_for, split_rows, trajectory_inputs
from tests.tiny_image import StraightBackend


def test_rows_cover_all_steps_and_both_halves_of_guidance() -> None:
    inputs = trajectory_inputs(StraightBackend(), 4, requests_for(["red", "red"], steps=5), count=20)
    assert len(set(inputs["time"].tolist())) == 5
    conditional = inputs["text"][:, 0, 0] == 1
    assert conditional.sum() == (~conditional).sum() == 10
    assert [len(row["latents"]) for row in split_rows(inputs)] == [1] * 20


def test_more_rows_than_trajectories_have_are_refused() -> None:
    with pytest.raises(ValueError, match="20 rows of inputs, fewer than 21"):
        trajectory_inputs(StraightBackend(), 4, requests_for(["red", "red"], steps=5), count=21)
