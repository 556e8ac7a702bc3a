"""Stages `export_image`, `export_base`: what paints, in the forms that engines run, and what its reference painted.

The trained denoiser is served; the base is what evaluation compares it with, on the same engine.

Of a brought pipeline (`base.image.model`), see `components.export.pipeline`. Of the built-in network `denoiser/` and
`encoder/`, each with the reference's safetensors, the ONNX graph and OpenVINO's representation, and `golden/` with
inputs and the reference's outputs, so that an engine can be checked where PyTorch is not installed.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from components import config
from components.artifact import canonical, read_manifest, seal, staged, verify, write_text
from components.config import ExportImage, Serving
from components.data import sample
from components.export.onnx import TracedDenoiser, TracedEncoder, export_onnx
from components.export.openvino import export_openvino
from components.models import denoiser
from components.models.brought import BUILT_IN
from components.models.brought_pipeline import opened
from components.models.denoiser import CHANNELS, TEXT_WIDTH, Denoiser
from components.models.pipelines import adapted, family_of
from components.models.text_encoder import TextEncoder
from components.paths import ENCODER, IMAGE_SPLIT
from components.paths import IMAGE_BASE as BASE
from components.paths import IMAGE_BASE_EXPORT as BASE_EXPORT
from components.paths import IMAGE_CHECKPOINT as CHECKPOINT
from components.paths import IMAGE_EXPORT as EXPORT
from components.runtimes.image import STYLE, Sampler
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
GOLDEN_PICTURES = 2  # of a pipeline: its reference may take a quarter of an hour for each
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
    network: Denoiser,
    encoder: Path,
    captions: list[str],
    parameters: ExportImage,
    serving: Serving,
    folder: Path,
    style: str | None = None,
) -> None:
    """Everything but the manifest; `captions` are training captions for the calibration of int8.

    `style` leads every prompt that does not ask for one: it is written beside the network, for whatever paints with it.
    """
    backend = PyTorchBackend(network, TextEncoder(encoder, network.shape.text_tokens))
    sampler = Sampler(backend, network.shape.size, style=style)
    calibration = None
    if parameters.weight_format == "int8":
        count = math.ceil(parameters.calibration / rows_taken(serving))
        requests = requests_for(captions[:count], serving)
        rows = trajectory_inputs(sampler, requests, parameters.calibration)
        calibration = split_rows(rows)
    write_golden(sampler, serving, folder / GOLDEN)
    if style is not None:
        write_text(folder / STYLE, canonical({"style": style}))
    write_denoiser(network, folder / "denoiser", calibration)
    write_encoder(encoder, network.shape.text_tokens, folder / "encoder")


def export_pipeline(stage: str, captions: list[str], parameters: ExportImage, serving: Serving, folder: Path) -> str:
    """A brought pipeline, with its adapter or (`export_base`) without; the digest of what it was made from."""
    from components.export.pipeline import write_pipeline, write_pipeline_golden  # 5 s of imports

    base, manifest = opened()
    family = family_of(base)
    if stage == "export_base":
        write_pipeline(lambda: family.read(base), family, base, parameters, serving, folder)
        return manifest.digest
    digest = verify(CHECKPOINT).digest
    runtime = write_pipeline(lambda: adapted(base, CHECKPOINT), family, base, parameters, serving, folder)
    description = runtime.description
    prompts = [runtime.shared_part(caption) for caption in captions[:GOLDEN_PICTURES]]
    del runtime  # the memory holds the engine or the reference
    write_pipeline_golden(adapted(base, CHECKPOINT), description, prompts, folder)
    return digest


def main(stage: str) -> None:
    """Export the stage's model to its folder."""
    params = config.load()
    if params.base.image.model == BUILT_IN["image"]:
        return export_built_in(stage, params.export.image, params.serving)
    captions = [row.text for row in sample.iterate(TRAIN)]
    parameters, target = params.export.image, STAGES[stage][1]
    with staged(target) as folder:
        digest = export_pipeline(stage, captions, parameters, params.serving, folder)
        recorded = parameters.model_dump(exclude={"calibration"})  # weights alone are compressed: without inputs
        seal(folder, line="image", kind="export", parents={"checkpoint": digest}, parameters=recorded, metrics={})
    print(f"{target}: {parameters.engine} ({parameters.weight_format})")


def export_built_in(stage: str, parameters: ExportImage, serving: Serving) -> None:
    """The built-in network: the trained denoiser, or the shipped one."""
    if parameters.weight_format == "f16":
        raise StageError("export.image.weight_format f16 is for pipelines; the built-in network takes f32 or int8")
    if parameters.engine != "openvino":
        raise StageError("export.image.engine is for pipelines; the built-in network is exported for every engine")
    source, target = STAGES[stage]
    network = denoiser.load(source)
    captions = [row.text for row in sample.iterate(TRAIN)]
    rows = len(captions) * rows_there_are(serving)
    if parameters.weight_format == "int8" and rows < parameters.calibration:
        raise StageError(
            f"export.image.calibration {parameters.calibration} exceeds the {rows} inputs that {len(captions)} "
            "training samples give; lower it or add samples"
        )
    with staged(target) as folder:
        made = read_manifest(source)
        write_export(network, ENCODER, captions, parameters, serving, folder, made.parameters.get("style"))
        parents = {"checkpoint": made.digest}
        recorded = parameters.model_dump(exclude={"engine"})
        seal(folder, line="image", kind="export", parents=parents, parameters=recorded, metrics={})
    print(f"{target}: reference, ONNX and OpenVINO ({parameters.weight_format})")


if __name__ == "__main__":
    run(main)
