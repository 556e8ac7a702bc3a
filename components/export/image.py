"""Stages `export_image`, `export_base`: a denoiser and its caption encoder as ONNX and OpenVINO files, and reference.

The trained denoiser is served; the base is what evaluation compares it with, on the same engine.

Layout: `denoiser/` and `encoder/`, each with the reference's safetensors, the ONNX graph and OpenVINO's representation,
and `golden/` with inputs and the reference's outputs, so that an engine can be checked where PyTorch is not installed.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from components import config
from components.artifact import read_manifest, seal, staged
from components.config import ExportImage, Serving
from components.data import sample
from components.export.onnx import TracedDenoiser, TracedEncoder, export_onnx
from components.export.openvino import export_openvino
from components.models import denoiser
from components.models.denoiser import CHANNELS, TEXT_WIDTH, Denoiser
from components.models.text_encoder import TextEncoder
from components.paths import ENCODER, IMAGE_SPLIT
from components.paths import IMAGE_BASE as BASE
from components.paths import IMAGE_BASE_EXPORT as BASE_EXPORT
from components.paths import IMAGE_CHECKPOINT as CHECKPOINT
from components.paths import IMAGE_EXPORT as EXPORT
from components.runtimes.pytorch import PyTorchBackend
from components.runtimes.trajectories import (
    GOLDEN,
    Inputs,
    requests_for,
    rows_taken,
    rows_there_are,
    split_rows,
    trajectory_inputs,
    write_golden,
)
from components.stage import StageError, run

TRAIN = IMAGE_SPLIT / "train.parquet"
STAGES = {"export_image": (CHECKPOINT, EXPORT), "export_base": (BASE, BASE_EXPORT)}
ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def write_denoiser(network: Denoiser, folder: Path, calibration: list[Inputs] | None) -> None:
    """`denoiser/`: reference weights and shape, ONNX graph, OpenVINO representation."""
    shape = network.shape
    examples = {
        "latents": torch.zeros(2, CHANNELS, shape.size, shape.size),
        "time": torch.full((2,), 0.5),
        "text": torch.zeros(2, shape.text_tokens, TEXT_WIDTH),
        "mask": torch.ones(2, shape.text_tokens),
    }
    denoiser.save(network, folder)
    export_onnx(TracedDenoiser(network), examples, "velocity", folder / "denoiser.onnx")
    export_openvino(folder / "denoiser.onnx", folder / "denoiser.xml", calibration)


def write_encoder(source: Path, tokens: int, folder: Path) -> None:
    """`encoder/`: MiniLM's own files, ONNX graph, OpenVINO representation (half-precision weights)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ENCODER_FILES:
        shutil.copyfile(source / name, folder / name)
    model = TextEncoder(source, tokens).model
    model.set_attn_implementation("eager")  # the exporter cannot trace the fused attention's value-dependent mask code
    ids_BL = torch.ones(2, tokens, dtype=torch.long)
    examples = {"ids": ids_BL, "mask": torch.ones_like(ids_BL)}
    export_onnx(TracedEncoder(model), examples, "states", folder / "encoder.onnx")
    export_openvino(folder / "encoder.onnx", folder / "encoder.xml", None)


def write_export(
    network: Denoiser, encoder: Path, captions: list[str], parameters: ExportImage, serving: Serving, folder: Path
) -> None:
    """Everything but the manifest; `captions` are training captions for the calibration of int8."""
    backend = PyTorchBackend(network, TextEncoder(encoder, network.shape.text_tokens))
    calibration = None
    if parameters.weight_format == "int8":
        count = math.ceil(parameters.calibration / rows_taken(serving))
        requests = requests_for(captions[:count], serving)
        rows = trajectory_inputs(backend, network.shape.size, requests, parameters.calibration)
        calibration = split_rows(rows)
    write_golden(backend, network.shape.size, serving, folder / GOLDEN)
    write_denoiser(network, folder / "denoiser", calibration)
    write_encoder(encoder, network.shape.text_tokens, folder / "encoder")


def main(stage: str) -> None:
    """Export the stage's model to its folder."""
    source, target = STAGES[stage]
    params = config.load()
    parameters, serving = params.export.image, params.serving
    network = denoiser.load(source)
    captions = [row.text for row in sample.iterate(TRAIN)]
    rows = len(captions) * rows_there_are(serving)
    if parameters.weight_format == "int8" and rows < parameters.calibration:
        raise StageError(
            f"export.image.calibration {parameters.calibration} exceeds the {rows} inputs that {len(captions)} "
            "training samples give; lower it or add samples"
        )
    with staged(target) as folder:
        write_export(network, ENCODER, captions, parameters, serving, folder)
        parents = {"checkpoint": read_manifest(source).digest}
        seal(folder, line="image", kind="export", parents=parents, parameters=parameters.model_dump(), metrics={})
    print(f"{target}: reference, ONNX and OpenVINO ({parameters.weight_format})")


if __name__ == "__main__":
    run(main)
