"""`atelier model show` says what a model is and takes, in lines that fit a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import load
from components.planner import machine
from flows.model import LENGTH, run_of, show
from tests.components.models.test_brought import CARD
from tests.conftest import ROOT
from tests.tiny_language import write_tiny_base
from tests.tiny_pipelines import write_tiny_sd3

PARAMS = load(ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SECONDS", 0.01)


def test_a_language_model_is_described_and_planned(tmp_path: Path) -> None:
    folder = write_tiny_base(tmp_path / "model")
    (folder / "README.md").write_text(CARD)
    lines = list(show(str(folder), PARAMS))
    page = "\n".join(lines)
    assert max(map(len, lines)) <= max(100, len(str(folder)) + 17)
    for words in (
        "family           llama",
        "missing          nothing",
        "OpenVINO GenAI: exports",
        "to train LoRA, rank 8: 16 × 512 tokens a step, 60 steps, bf16, 1 device, auto",
        "to train every weight",
        "to serve a conversation of 512 tokens",
        " 8,192 at once",  # of 2 layers' keys and values in 16 bits, in the engine's 1 GB
    ):
        assert words in page
    gpus = [line for line in lines if line.startswith(("  A100", "  V100"))]
    assert len(gpus) == 9 and all("unproven" in line for line in gpus)


def test_the_plan_is_of_the_steps_that_params_yaml_sets() -> None:
    settings = PARAMS.train.text.model_copy(update={"micro_batch": 2, "gradient_checkpointing": True})
    run = run_of(settings, "lora")
    assert (run.micro, run.checkpointing, run.tokens) == (2, True, 2 * run.length)


def test_what_is_missing_is_said_and_what_can_be_planned_is(tmp_path: Path) -> None:
    folder = write_tiny_base(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    lines = list(show(str(folder), PARAMS))
    missing = lines.index(next(line for line in lines if line.startswith("missing")))
    assert "it has no chat template" in lines[missing]
    assert any("names no licence" in line for line in lines[missing:])
    assert any(line.startswith("to train every weight") for line in lines)


def test_the_licence_that_params_yaml_states_counts_for_its_own_model(tmp_path: Path) -> None:
    folder = write_tiny_base(tmp_path / "model")
    base = PARAMS.base.text.model_copy(update={"model": str(folder), "licence": "our-own"})
    stated = PARAMS.model_copy(update={"base": PARAMS.base.model_copy(update={"text": base})})
    assert "missing          nothing" in list(show(str(folder), stated))
    assert "missing          nothing" not in list(show(str(folder), PARAMS))


def test_a_pipeline_is_described(tmp_path: Path) -> None:
    lines = list(show(str(write_tiny_sd3(tmp_path / "sd3")), PARAMS))
    assert "native size      64 × 64 pixels" in lines
    assert lines[-1] == "memory and hours of image models are not planned"
    assert any("exports (OVStableDiffusion3Pipeline)" in line for line in lines)


def test_the_run_is_that_of_params_yaml() -> None:
    run = run_of(PARAMS.train.text, "lora")
    assert (run.batch, run.length, run.rank, run.precision, run.answered) == (16, LENGTH, 8, "bf16", 1.0)
