"""What a user names measures pictures, beside the same figures of pictures that nobody painted."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file

from components.config import EvaluateImage
from components.data.sample import Sample
from components.evaluation.gate import pipeline_checks
from components.evaluation.measures import Measures
from components.evaluation.pipeline import measured
from tests.components.models.test_inception import random_network
from tests.tiny_clip import write_tiny_siglip

ALONE = {"alignment", "alignment_probability", "aesthetics", "inception_score"}
DISTANCES = {"kid", "kid_standard_error", "fid", "inception_kid", "inception_fid"}


def settings(**named: Path) -> EvaluateImage:
    return EvaluateImage(samples=4, seed=7, batch_size=2, sheet=2, **named)


def samples(side: str, numbers: range) -> list[Sample]:
    found = []
    for number in numbers:
        buffer = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        found.append(Sample(f"{side}{number}", f"thing {number}", buffer.getvalue()))
    return found


def test_each_figure_stands_beside_that_of_pictures_that_nobody_painted_and_any_of_them_is_a_bound(
    tmp_path: Path,
) -> None:
    """SigLIP, a head on its embeddings, and Inception with random weights; what is painted is the real pictures."""
    save_file({"weight": torch.full((1, 16), 0.5), "bias": torch.full((1,), 5.0)}, tmp_path / "head.safetensors")
    save_file(random_network().state_dict(), tmp_path / "inception.safetensors")
    measures = Measures(
        settings(
            encoder=write_tiny_siglip(tmp_path / "siglip"),
            aesthetics=tmp_path / "head.safetensors",
            inception=tmp_path / "inception.safetensors",
        )
    )
    assert measures.names["features"] == "siglip, siglip" and len(measures.names["aesthetics_weights"]) == 64
    held_out = samples("test", range(4))
    real_BCHW = torch.from_numpy(np.stack([np.array(Image.open(io.BytesIO(s.image or b""))) for s in held_out]))
    rows = measured(measures, {"after": real_BCHW.permute(0, 3, 1, 2)}, held_out, samples("train", range(4, 7)))
    real = rows["real_pictures"]
    assert real.keys() >= ALONE and not real.keys() & DISTANCES and 3 < real["aesthetics"] < 7
    for row in ("after", "nearest_training_picture"):
        assert rows[row].keys() >= ALONE | DISTANCES
    assert all(rows["after"][name] == pytest.approx(real[name], abs=1e-5) for name in ALONE)
    for name in ("fid", "inception_fid"):
        assert rows["after"][name] < rows["nearest_training_picture"][name]
    assert rows["shuffled_real_pictures"]["alignment_probability"] != real["alignment_probability"]
    bounds = {"fid": 0.1, "inception_kid": 1e9, "alignment_probability": 0.0, "aesthetics": 3.0, "inception_score": 1.0}
    checks = pipeline_checks({"before": {}, **rows}, bounds)
    assert [check.name for check in checks] == [*bounds] and all(check.passed for check in checks)
    assert "training's picture of the nearest caption" in checks[0].note


def test_a_head_without_the_encoder_that_it_reads_is_refused() -> None:
    with pytest.raises(ValidationError, match="name the encoder that it was made for"):
        settings(aesthetics=Path("head.safetensors"))
