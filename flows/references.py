"""What PyTorch computes the answers of a deployment with, kept while it serves.

A training replaces the checkpoint that a served model was made of. So what it takes is kept, while it is there, in
`.atelier/references/<deployment>`: of text and of a brought pipeline the checkpoint with what describes the package (an
adapter of a few megabytes; its base stays where it is), of the built-in image network the package, which holds it in
PyTorch's form. Kept files are second names of the artifacts' own, and take no room of their own while those are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from peft import PeftModel

from components.artifact import MANIFEST, ArtifactError, Manifest, link, read_manifest, staged, verify
from components.config import Line
from components.evaluation.recheck import Kept, TextReference, judge_picture, judge_pipeline_picture
from components.evaluation.stored import as_stored
from components.events.rechecks import Judgement
from components.events.schema import Deployment
from components.host_memory import host_memory
from components.models import brought_pipeline
from components.models.brought import opened, parameters_of
from components.models.language import Chat, load_merged
from components.models.pipelines import adapted, family_of
from components.paths import ADAPTERS, ARTIFACTS, IMAGE_SOURCE, TEXT_BASE
from components.runtimes.image import load_image
from components.runtimes.pipeline import DESCRIPTION, FOLDER, Description, paints_pipeline
from components.runtimes.pipeline_openvino import computes_in
from components.runtimes.reference import DiffusersPipeline
from components.stage import StageError
from flows.environment import ROOT, STATE

REFERENCES = STATE / "references"
CHECKPOINT, PACKAGE = "checkpoint", "package"
DESCRIBING = (MANIFEST, DESCRIPTION, f"{FOLDER}/tokenizer*/tokenizer.json")  # of a package, what stands beside weights
SPARE = 0.8  # share of the free memory that weights may take: what is computed with them takes the rest


class NotNowError(StageError):
    """This machine has the memory for it, and has not now."""


def require_room(parameters: int, name: str) -> None:
    """Raise `StageError` where so many weights in float32 are more than there is room for; `NotNowError` for now."""
    needed, (free, most) = 4 * parameters, host_memory()
    words = (
        f"computing {name}'s answers again takes {needed / 1e9:.2f} GB for {parameters / 1e6:,.0f} M weights in "
        f"float32; of {most / 1e9:.2f} GB of memory {free / 1e9:.2f} are free, and {SPARE:.0%} of them can be used"
    )
    if needed > SPARE * most:
        raise StageError(f"{words}: set serving.recheck to 0 on this machine")
    if needed > SPARE * free:
        raise NotNowError(words)


def keep(deployments: Collection[Deployment]) -> None:
    """Copy what these take where it is here still, and remove what none of them takes any more."""
    for deployment in deployments:
        if not (REFERENCES / deployment.deployment).exists() and is_here(deployment):
            copy(deployment.line, REFERENCES / deployment.deployment)
    names = {deployment.deployment for deployment in deployments}
    for folder in REFERENCES.glob("*/"):
        if folder.name not in names:
            shutil.rmtree(folder)


def is_here(deployment: Deployment) -> bool:
    """Whether the artifacts on this machine are those that a deployment was made of."""
    folder = ROOT / ARTIFACTS / deployment.line
    try:
        package = read_manifest(folder / PACKAGE)
        whole = package.digest == deployment.digest
        return whole and (
            _is_built_in_image(folder / PACKAGE, deployment.line)
            or read_manifest(folder / CHECKPOINT).digest == package.parents[CHECKPOINT]
        )
    except ArtifactError:
        return False


def _is_built_in_image(package: Path, line: Line) -> bool:
    return line == "image" and not paints_pipeline(package)


def copy(line: Line, target: Path) -> None:
    source = ROOT / ARTIFACTS / line
    with staged(target) as folder:
        if _is_built_in_image(source / PACKAGE, line):
            shutil.copytree(source / PACKAGE, folder / PACKAGE, copy_function=link)
            return
        for pattern in DESCRIBING:
            for file in (source / PACKAGE).glob(pattern):
                kept = folder / PACKAGE / file.relative_to(source / PACKAGE)
                kept.parent.mkdir(parents=True, exist_ok=True)
                link(str(file), str(kept))
        shutil.copytree(source / CHECKPOINT, folder / CHECKPOINT, copy_function=link)


def manifest_of(deployment: Deployment) -> Manifest:
    """Its package's; raises `StageError` where nothing of it was kept."""
    folder = REFERENCES / deployment.deployment
    if not folder.is_dir():
        raise StageError(f"what {deployment.deployment} was made of was replaced before it was kept")
    manifest = read_manifest(folder / PACKAGE)
    if manifest.digest != deployment.digest:
        raise StageError(f"{folder} holds another model than {deployment.deployment}; remove it")
    return manifest


def text_reference(deployment: Deployment, adapter: str) -> TextReference:
    """The trained weights with an adapter (a digest, empty: none) merged into them; raises `StageError`."""
    package = manifest_of(deployment)
    tie = package.metrics["verify"]["parity"].get("rounding", {}).get("tie")
    if tie is None:
        raise StageError(f"{deployment.deployment} was packaged before its rounding was measured; release it anew")
    base, checkpoint = parts_of(deployment, package, ROOT / TEXT_BASE, opened)
    require_room(parameters_of(base), deployment.deployment)
    model = load_merged(base, checkpoint, torch.float32)
    if adapter:
        folder = ROOT / ADAPTERS / adapter
        if verify(folder).digest != adapter:
            raise StageError(f"{folder} holds another adapter than {adapter}")
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval()
    return TextReference(model, Chat.read(base, checkpoint), package.parameters["weight_format"], tie)


def parts_of(
    deployment: Deployment, package: Manifest, source: Path, opened: Callable[[Path], tuple[Path, Manifest]]
) -> tuple[Path, Path]:
    """The folders of the base and of the checkpoint that it was made of; raises `StageError` where they are others."""
    checkpoint = REFERENCES / deployment.deployment / CHECKPOINT
    if verify(checkpoint).digest != package.parents[CHECKPOINT]:
        raise StageError(f"{checkpoint} holds another checkpoint than {deployment.deployment} was made of; remove it")
    base, brought = opened(source)
    if brought.digest != package.parents["base"]:
        raise StageError(f"the base of {deployment.deployment} was replaced since")
    return base, checkpoint


def picture_judge(deployment: Deployment, min_psnr: float) -> Callable[[Kept], Judgement]:
    """PyTorch on what the deployment was made of; raises `StageError` where that is not here."""
    package = manifest_of(deployment)
    folder = REFERENCES / deployment.deployment / PACKAGE
    if not paints_pipeline(folder):
        painter = load_image(folder, "pytorch")
        return lambda kept: judge_picture(painter, kept, min_psnr)
    base, checkpoint = parts_of(deployment, package, ROOT / IMAGE_SOURCE, brought_pipeline.opened)
    require_room(sum(brought_pipeline.parameters(base).values()), deployment.deployment)
    family, description = family_of(base), Description.read(folder)
    pipeline = as_stored(adapted(base, checkpoint), family, description.weight_format)
    pipeline.scheduler = family.as_served(pipeline.scheduler, base)
    served_in = computes_in(description.weight_format) if description.engine == "openvino" else "f32"
    reference = DiffusersPipeline(folder, pipeline, served_in)
    return lambda kept: judge_pipeline_picture(reference, kept)
