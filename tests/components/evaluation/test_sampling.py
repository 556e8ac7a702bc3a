"""Sweeps over steps and guidance: one row each, with honest agreement and diversity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.artifact import write_csv
from components.evaluation import sampling
from components.evaluation.image import Captions
from components.evaluation.sampling import agreement, by_guidance, by_steps
from components.models.judge import Judge
from components.models.text_encoder import TextEncoder
from components.runtimes.image import Sampler
from tests.components.evaluation.test_image import PAINTING, drawn
from tests.tiny_image import StraightBackend, write_tiny_encoder


def test_a_straight_path_needs_no_more_steps_and_leaves_no_diversity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "STEPS", (2, 3))
    monkeypatch.setattr(sampling, "GUIDANCE", (1.0,))
    torch.manual_seed(0)
    judge, encoder = Judge().eval().requires_grad_(False), TextEncoder(write_tiny_encoder(tmp_path))
    captions = Captions.of([drawn("red", 90), drawn("dog", 160), drawn("blue", 230)], encoder, 4)
    runtime = Sampler(StraightBackend(), 4)
    rows = by_steps(runtime, judge, captions, PAINTING)
    assert [(row["solver"], row["steps"]) for row in rows] == [
        (solver, steps) for solver in ("euler", "multistep") for steps in (2, 3)
    ]
    assert {row["agreement"] for row in rows} == {60.0}
    (guided,) = by_guidance(runtime, judge, captions, PAINTING)
    assert tuple(guided) == sampling.GUIDANCE_COLUMNS
    assert guided["diversity"] == pytest.approx(0, abs=1e-3)
    write_csv(tmp_path / "steps.csv", sampling.STEPS_COLUMNS, rows)
    assert (
        (tmp_path / "steps.csv").read_text().startswith("solver,steps,agreement,alignment,named,kid,seconds\neuler,2")
    )


def test_a_single_picture_is_timed_at_its_median(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 9.0] + [float(t) for number in range(sampling.REPEATS) for t in (0, number)])
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: next(ticks))
    assert sampling.seconds_per_picture(Sampler(StraightBackend(), 4), "red", PAINTING) == 4.0


def test_agreement_is_the_median_psnr() -> None:
    reference = torch.full((3, 3, 4, 4), 100, dtype=torch.uint8)
    off = reference + torch.tensor([0, 10, 20], dtype=torch.uint8).view(3, 1, 1, 1)
    assert agreement(off, reference) == pytest.approx(28.13, abs=0.01)
