"""The parity of a pipeline holds for what was exported of it, and fails for another one's export."""

from __future__ import annotations

import pytest

from components.config import load
from components.evaluation.verify_pipeline import failed, measure
from tests.conftest import ROOT, TinyPipeline

PARAMS = load(ROOT / "params.yaml")
SERVING = PARAMS.serving.model_copy(update={"image_steps": 2})


def test_an_export_without_the_trained_adapter_fails(tiny_pipeline: TinyPipeline) -> None:
    """The fixture's export is of the base, and the checkpoint's adapter changes what is painted."""
    document = measure(
        tiny_pipeline.export,
        tiny_pipeline.base,
        tiny_pipeline.family,
        tiny_pipeline.checkpoint,
        ["a red apple", "a dog"],
        SERVING,
        PARAMS.verify.image,
    )
    row = document["parity"]["openvino"]
    assert not document["passed"] and failed(row, PARAMS.verify.image)[0].startswith("weights_error ")
    assert row["max_latents_error"] > 1e-3
    assert row["adapter_effect"] > 1e-3
    assert row["adapter_merged_error"] < 1e-4
    assert row["seed_repeats"] and row["seconds_per_picture"] > 0


def test_the_export_of_what_is_compared_with_it_passes(
    tiny_pipeline: TinyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_pipeline.family.read(tiny_pipeline.base)
    monkeypatch.setattr("components.evaluation.verify_pipeline.adapted", lambda base, checkpoint: plain)
    arguments = tiny_pipeline.base, tiny_pipeline.family, tiny_pipeline.base
    document = measure(tiny_pipeline.export, *arguments, ["a red apple"], SERVING, PARAMS.verify.image)
    assert document["passed"]
    assert document["parity"]["openvino"]["max_latents_error"] < 1e-4
