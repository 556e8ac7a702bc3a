"""Engines are compared with PyTorch's eager and best setting in the same rounds, at every level of load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from components.config import load
from components.models.language import load_base
from components.runtimes.image import load_sampler
from components.runtimes.text import load_text
from components.runtimes.trajectories import requests_for, trajectory_inputs
from tests.bench.engines import EAGER, image_speed, text_speed
from tests.conftest import ROOT
from tests.tiny_image import CAPTIONS
from tests.tiny_language import tiny_chat

PHRASES = ["draw apple", "draw heart"]


def check(row: dict[str, Any], figures: dict[str, float], engines: set[str]) -> None:
    assert row["rounds"] == 6
    assert row["speedup"].keys() == row["speedup_over_best_pytorch"].keys() == engines
    assert min(figures.values()) > 0
    for ratio in (*row["speedup"].values(), *row["speedup_over_best_pytorch"].values()):
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]
    if row["best_pytorch"] == EAGER:
        assert row["speedup"] == row["speedup_over_best_pytorch"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_18_image_engines_are_timed_at_every_batch(tiny_image_export: Path) -> None:
    samplers = {name: load_sampler(tiny_image_export, name) for name in ("pytorch", "onnxruntime", "openvino")}
    requests = requests_for(CAPTIONS[:2], load(ROOT / "params.yaml").serving)
    inputs = trajectory_inputs(samplers["pytorch"], requests, count=4)
    table = image_speed(samplers, inputs, rounds=6)
    assert table.keys() == {"batch_1", "batch_8", "batch_32"}
    for row in table.values():
        check(row, row["ms_per_image"], {"onnxruntime", "openvino"})


def test_18_the_text_engine_is_timed_at_every_number_of_streams(tiny_base: Path, tiny_export: Path) -> None:
    runtime = load_text(tiny_export)
    try:
        model = load_base(tiny_base, torch.float32)
        table = text_speed(model, tiny_chat(tiny_base), runtime, PHRASES, rounds=6)
    finally:
        runtime.close()
    assert table.keys() == {"streams_1", "streams_8"}
    for row in table.values():
        check(row, row["tokens_per_second"], {"openvino"})
