"""Which engines can run a model, as the libraries here say; nothing is exported."""

from __future__ import annotations

from importlib.metadata import version

from components.models.pipelines import FAMILIES
from components.models.servable import openvino_text, quietly


def text_engines(family: str) -> dict[str, str]:
    """Engine to what is known of it, for a model type of transformers."""
    return {"PyTorch": "the reference; trains", "OpenVINO GenAI": openvino_text(family)}


def picture_engines(pipeline: str) -> dict[str, str]:
    """The same for the class of a diffusers pipeline."""
    with quietly():
        from optimum.intel.openvino import modeling_diffusion

    kind = f"OV{pipeline}"
    exports = hasattr(modeling_diffusion, kind)
    said = f"exports ({kind})" if exports else f"no: optimum-intel {version('optimum-intel')} has no {kind}"
    known = pipeline in FAMILIES
    onnx = (
        "exports in f32 or f16 (export.image.engine: onnxruntime)" if known else f"no: {pipeline} is of no family here"
    )
    return {"PyTorch": "the reference; trains", "OpenVINO": said, "ONNX Runtime": onnx}
