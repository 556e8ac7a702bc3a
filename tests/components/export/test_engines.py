"""What the libraries say of a model before anything is exported."""

from __future__ import annotations

import pytest

from components.export.engines import picture_engines, text_engines


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("qwen3", "exports"),
        ("gemma3_text", "no: its export takes transformers up to 5.0"),
        ("nonsense", "has no export of nonsense"),
    ],
)
def test_openvino_takes_a_language_model_or_says_why_not(family: str, said: str) -> None:
    assert said in text_engines(family)["OpenVINO GenAI"]


def test_openvino_takes_a_pipeline_or_says_why_not() -> None:
    assert picture_engines("FluxPipeline")["OpenVINO"] == "exports (OVFluxPipeline)"
    assert picture_engines("FluxPipeline")["ONNX Runtime"].startswith("exports in f32 or f16")
    assert picture_engines("PixArtSigmaPipeline")["OpenVINO"].endswith("has no OVPixArtSigmaPipeline")
    assert picture_engines("PixArtSigmaPipeline")["ONNX Runtime"].startswith("no: ")
