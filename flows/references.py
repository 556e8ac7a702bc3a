"""What PyTorch computes the answers of a deployment with, kept while it serves.

A training replaces the checkpoint that a served model was made of. So what it takes is kept, while it is there, in
`.atelier/references/<deployment>`: of the text line the checkpoint with the package's manifest (an adapter of a few
megabytes; its base stays where it is), of the image line the package, which holds its network in PyTorch's form. They
are second names of the same files, and take no room of their own until those are replaced.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import torch
from peft import PeftModel

from components.artifact import MANIFEST, ArtifactError, Manifest, link, read_manifest, staged, verify
from components.config import Line
from components.evaluation.recheck import TextReference
from components.events.schema import Deployment
from components.host_memory import host_memory
from components.models.brought import opened, parameters_of
from components.models.language import Chat, load_merged
from components.paths import ADAPTERS, ARTIFACTS, TEXT_BASE, TEXT_CHECKPOINT
from components.runtimes.base import ImageRuntime
from components.runtimes.image import load_image
from components.runtimes.pipeline import paints_pipeline
from components.stage import StageError
from flows.environment import ROOT, STATE

REFERENCES = STATE / "references"
CHECKPOINT, PACKAGE = "checkpoint", "package"
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
    """Whether the artifacts on this machine are those that a deployment was made of, and PyTorch can compute with
    them: a pipeline's package holds no network in its form."""
    if deployment.line == "image" and paints_pipeline(ROOT / ARTIFACTS / "image" / PACKAGE):
        return False
    try:
        package = read_manifest(ROOT / ARTIFACTS / deployment.line / PACKAGE)
        made_of = read_manifest(ROOT / TEXT_CHECKPOINT).digest if deployment.line == "text" else ""
    except ArtifactError:
        return False
    return package.digest == deployment.digest and made_of == (package.parents[CHECKPOINT] if made_of else "")


def copy(line: Line, target: Path) -> None:
    with staged(target) as folder:
        package = ROOT / ARTIFACTS / line / PACKAGE
        if line == "image":
            shutil.copytree(package, folder / PACKAGE, copy_function=link)
            return
        (folder / PACKAGE).mkdir()
        shutil.copy(package / MANIFEST, folder / PACKAGE)
        shutil.copytree(ROOT / TEXT_CHECKPOINT, folder / CHECKPOINT, copy_function=link)


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
    checkpoint = REFERENCES / deployment.deployment / CHECKPOINT
    if verify(checkpoint).digest != package.parents[CHECKPOINT]:
        raise StageError(f"{checkpoint} holds another checkpoint than {deployment.deployment} was made of; remove it")
    base, brought = opened(ROOT / TEXT_BASE)
    if brought.digest != package.parents["base"]:
        raise StageError(f"the base of {deployment.deployment} was replaced since")
    require_room(parameters_of(base), deployment.deployment)
    model = load_merged(base, checkpoint, torch.float32)
    if adapter:
        folder = ROOT / ADAPTERS / adapter
        if verify(folder).digest != adapter:
            raise StageError(f"{folder} holds another adapter than {adapter}")
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval()
    return TextReference(model, Chat.read(base, checkpoint), package.parameters["weight_format"], tie)


def picture_reference(deployment: Deployment) -> ImageRuntime:
    """PyTorch on the deployment's package; raises `StageError` where that is not here."""
    manifest_of(deployment)
    return load_image(REFERENCES / deployment.deployment / PACKAGE, "pytorch")
