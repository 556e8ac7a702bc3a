"""A diffusers pipeline as the engine that serves reads it, and what a reference paints with it.

The adapter is part of the weights by now. Weights are stored in float32, in float16, or, the matrices of the network
and the text encoders, in 8 bits, all else in float16. What diffusers and OpenVINO GenAI understand differently is
written out, so that both paint the same picture; what an engine cannot run is refused before anything is measured.
"""

from __future__ import annotations

import gc
import inspect
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
from diffusers import DiffusionPipeline
from openvino import opset13
from openvino_tokenizers import convert_tokenizer
from optimum.exporters.openvino.convert import export_from_model
from optimum.intel import OVConfig

from components.artifact import ArtifactError, canonical, write_text
from components.config import ExportImage, Serving
from components.export import pipeline_onnxruntime
from components.models.pipelines import Family
from components.models.pipelines.family import halve
from components.runtimes.base import ImageRequest, NotFiniteError
from components.runtimes.image import load_pipeline
from components.runtimes.pipeline import DESCRIPTION, FOLDER, Description, PipelineRuntime
from components.runtimes.reference import trajectory
from components.runtimes.trajectories import GOLDEN, described
from components.stage import StageError

SEQUENCE = "max_sequence_length"


def write_pipeline(
    read: Callable[[], DiffusionPipeline],
    family: Family,
    base: Path,
    parameters: ExportImage,
    serving: Serving,
    folder: Path,
) -> PipelineRuntime:
    """`pipeline/` and `pipeline.json` of the pipeline that `read` gives, of the folder `base`, as they serve.

    Its weights are out of memory again before they are compressed and before a picture is painted on trial. Raises
    `StageError` where the engine refuses it.
    """
    description = _written(read(), family, base, parameters, serving, folder)
    gc.collect()
    if parameters.engine == "openvino":
        store(folder, family, parameters.weight_format)
    write_text(folder / DESCRIPTION, canonical(description.model_dump()))
    try:
        runtime = load_pipeline(folder)
        runtime.generate([ImageRequest("", 0, 2, 2.0)])
    except (ArtifactError, RuntimeError, NotFiniteError) as error:
        raise StageError(
            f"{parameters.engine} cannot paint with {family.pipeline} and its {description.scheduler}: {error}"
        ) from error
    return runtime


def _written(
    pipeline: DiffusionPipeline,
    family: Family,
    base: Path,
    parameters: ExportImage,
    serving: Serving,
    folder: Path,
) -> Description:
    """Write `pipeline/`, its weights not yet compressed by OpenVINO; returns what describes it."""
    limits = _limits(pipeline)
    if parameters.weight_format != "f32":
        halve(pipeline)
    if parameters.engine == "onnxruntime":
        pipeline_onnxruntime.refuse(serving.image_steps)
        pipeline_onnxruntime.write_graphs(pipeline, family, base, limits, folder / FOLDER)
    else:
        _write_openvino(pipeline, family, base, limits, folder / FOLDER)
    parameter = inspect.signature(pipeline.__call__).parameters.get(SEQUENCE)
    return Description.model_validate(
        {
            "engine": parameters.engine,
            "pipeline": family.pipeline,
            "family": family.name,
            "scheduler": type(pipeline.scheduler).__name__,
            "weight_format": parameters.weight_format,
            "size": family.native_size(base),
            "multiple": family.multiple(base),
            "steps": serving.image_steps,
            "guidance": serving.image_guidance,
            "tokens": limits,
            "sequence": parameter.default if parameter else None,
        }
    )


def _write_openvino(
    pipeline: DiffusionPipeline, family: Family, base: Path, limits: dict[str, int], target: Path
) -> None:
    try:
        export_from_model(pipeline, target, "text-to-image", OVConfig(dtype="fp32"), stateful=False)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise StageError(f"{family.pipeline} cannot be exported to OpenVINO: {error}") from error
    shutil.rmtree(target / "vae_encoder", ignore_errors=True)  # which nobody paints with
    for name in limits:  # which optimum leaves to the runtime, and GenAI expects
        graph = convert_tokenizer(getattr(pipeline, name), with_detokenizer=False)
        ov.save_model(graph, target / name / "openvino_tokenizer.xml")
    schedule = target / "scheduler/scheduler_config.json"
    write_text(schedule, canonical(json.loads(schedule.read_bytes()) | family.written_out(pipeline.scheduler, base)))


def write_pipeline_golden(
    pipeline: DiffusionPipeline, description: Description, prompts: Sequence[str], folder: Path
) -> None:
    """Requests, and what the reference paints for them: each step's latents and the pictures.

    `prompts` are what every encoder reads of captions.
    """
    requests = [ImageRequest(part, n, description.steps, description.guidance) for n, part in enumerate(prompts)]
    painted = [trajectory(pipeline, request, description.size) for request in requests]
    (folder / GOLDEN).mkdir(parents=True)
    latents_BTCHW = np.stack([np.concatenate(latents) for latents, _ in painted])
    pictures_BHWC = np.stack([picture for _, picture in painted])
    np.savez(folder / GOLDEN / "golden.npz", allow_pickle=False, latents=latents_BTCHW, pictures=pictures_BHWC)
    write_text(folder / GOLDEN / "golden.json", canonical({"requests": described(requests)}))


def store(folder: Path, family: Family, weight_format: str) -> None:
    """Store the weights of an OpenVINO export in 16 bits, or what is matrices in 8, with a scale and a zero point for
    each row; in float32 as they are."""
    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})  # or the file that is being written is the one that is read
    for graph in sorted((folder / FOLDER).glob("*/openvino_model.xml")) if weight_format != "f32" else ():
        model = core.read_model(graph)
        if weight_format == "int8" and graph.parent.name in (family.network_name, *family.encoders):
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        exact = {
            node.get_friendly_name(): node.data.copy() for node in _constants(model, ov.Type.f32) if _is_exact(node)
        }
        ov.save_model(model, graph, compress_to_fp16=True)
        model = core.read_model(graph)
        _restore(model, exact)
        ov.save_model(model, graph, compress_to_fp16=False)


def _constants(model: ov.Model, kind: ov.Type) -> list[ov.Node]:
    return [node for node in model.get_ops() if node.get_type_name() == "Constant" and node.get_element_type() == kind]


def _is_exact(node: ov.Node) -> bool:
    """Whether a constant is none of the weights, which hold no more than 16 bits by now: a frequency, say, of which a
    thousand times what was rounded is half a radian off."""
    return bool((node.data.astype(np.float16) != node.data).any())


def _restore(model: ov.Model, exact: dict[str, np.ndarray[Any, Any]]) -> None:
    """Take these constants in the place of the 16 bits that they were rounded to."""
    for node in _constants(model, ov.Type.f16):
        name = node.get_friendly_name().removesuffix("_compressed")
        for widened in [*node.output(0).get_target_inputs()] if name in exact else ():
            for target in [*widened.get_node().output(0).get_target_inputs()]:
                target.replace_source_output(opset13.constant(exact[name]).output(0))


def _limits(pipeline: DiffusionPipeline) -> dict[str, int]:
    """How many tokens the pipeline reads with each of its tokenizers."""
    default = inspect.signature(pipeline.__call__).parameters.get(SEQUENCE)
    limits = {}
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        encoder = getattr(pipeline, name.replace("tokenizer", "text_encoder"), None)
        if encoder is None or getattr(pipeline, name, None) is None:
            continue
        positions = getattr(encoder.config, "max_position_embeddings", None)  # relative ones have no end
        limits[name] = int(positions or (default.default if default else getattr(pipeline, name).model_max_length))
    return limits
