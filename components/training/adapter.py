"""An adapter for one segment of users: LoRA on top of the champion's weights, taught what that segment likes.

Trained as the model itself is, with the segment's pairs as the learned ones among the champion's own. It is measured on
what held-out users of the segment liked, once with it and once without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel

from components.artifact import MANIFEST, Manifest, canonical, read_manifest, seal, staged, verify
from components.config import TrainText
from components.data import feedback
from components.data.pairs import Pair, read_pairs
from components.models.brought import opened
from components.models.language import Chat, adapted, held_out_loss, load_merged
from components.paths import ADAPTERS, TEXT_BASE, TRAINING_STATE
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_PACKAGE as PACKAGE
from components.paths import TEXT_SPLIT as SPLIT
from components.stage import StageError
from components.training import text
from components.training.lengths import Fit, fitting
from components.training.trainer import discard, state_key

STATE = TRAINING_STATE / "adapter"


def find(segment: Mapping[str, str], learned: Path, settings: TrainText) -> Manifest | None:
    """The adapter that `make` would make, if there is one."""
    source, _ = opened(TEXT_BASE)
    chat, settings = Chat.read(source, CHECKPOINT), _alone(settings)
    run = text.schedule(_samples(learned, settings, chat, source).samples, settings)[1]
    wanted = parents_of(learned), _parameters(segment, run, chat)
    made = (read_manifest(path.parent) for path in ADAPTERS.glob(f"*/{MANIFEST}"))
    same = (manifest for manifest in made if (manifest.parents, manifest.parameters) == wanted)
    return next((manifest for manifest in same if (ADAPTERS / manifest.digest).is_dir()), None)


def parents_of(learned: Path) -> dict[str, str]:
    """What an adapter is made of: the champion's package and weights, the data that it learnt from, and the segment's.

    Raises `ArtifactError` where one of them is not there.
    """
    package = read_manifest(PACKAGE)
    data = {"data": read_manifest(SPLIT).digest, "feedback": read_manifest(learned).digest}
    return {"package": package.digest, "checkpoint": package.parents["checkpoint"], **data}


def make(segment: Mapping[str, str], learned: Path, settings: TrainText) -> Manifest:
    """Train on the segment's data version in `learned`, and seal the adapter as `artifacts/text/adapters/<digest>`.

    In this process, on one device; what was killed goes on where it stopped. Raises `StageError` where the checkpoint
    here is not the package's, and where something was made anew meanwhile.
    """
    parents = parents_of(learned)
    if verify(CHECKPOINT).digest != parents["checkpoint"]:
        raise StageError(f"{CHECKPOINT} is not what {PACKAGE} was made from; run `dvc repro package@text`")
    source, _ = opened(TEXT_BASE)
    chat, settings = Chat.read(source, CHECKPOINT), _alone(settings)
    fit = _samples(learned, settings, chat, source)
    seen, run = text.schedule(fit.samples, settings)
    parameters = _parameters(segment, run, chat)
    text.announce(seen, run, settings)
    checks = [Pair(row["prompt"], row["output"], "") for row in feedback.held_out(learned) if row["liked"]]
    base = STATE / "merged"
    load_merged(source, CHECKPOINT, torch.float32).save_pretrained(base)
    key = state_key(parameters, canonical([parents, fit.metrics["max_length"]]))
    trained, fitted = text.train(base, chat, seen, run, state_dir=STATE / "run", key=key)
    model = cast(PeftModel, trained)
    after = held_out_loss(adapted(model), chat, checks)
    with model.disable_adapter():
        before = held_out_loss(adapted(model), chat, checks)
    metrics = text.summarise(fitted, after, settings.max_steps) | fit.metrics
    metrics |= {"validation_loss_without": before, "checks": len(checks)}
    if parents_of(learned) != parents:
        raise StageError(
            "the model or its data was made anew while the adapter was trained; run `atelier learn adapt` again"
        )
    manifest = _publish(model, parents, parameters, metrics)
    discard(STATE)
    return manifest


def _samples(learned: Path, settings: TrainText, chat: Chat, source: Path) -> Fit:
    """Those of the champion's own pairs, and the segment's as the learned ones."""
    pairs = [replace(pair, learned=False) for pair in read_pairs(SPLIT / "train.parquet")]
    pairs += [
        Pair(sample.text, sample.meta["completion"], "", learned=True, rejected=sample.meta.get("rejected", ""))
        for sample in feedback.samples(learned)
    ]
    return fitting(chat, pairs, settings, text.room(source, settings))


def _alone(settings: TrainText) -> TrainText:
    """In this process on one device, and plain LoRA however the champion was trained: the engine adds no other."""
    own = {"strategy": "auto", "devices": 1, "adapter": "lora", "quantised": None}
    return settings.model_copy(update=own)


def _parameters(segment: Mapping[str, str], settings: TrainText, chat: Chat) -> dict[str, Any]:
    """`scale`: of the adapter's product, by which an engine that knows no PEFT has to multiply it.

    The system prompt is the one that the weights were trained with, whatever the settings say now.
    """
    own = {"scale": settings.lora_alpha / settings.lora_rank, "system_prompt": chat.format.system_prompt}
    return {"segment": dict(segment), **settings.model_dump(), **own}


def _publish(
    model: PeftModel, parents: dict[str, str], parameters: dict[str, Any], metrics: dict[str, float]
) -> Manifest:
    """Write the adapter as safetensors with its manifest, whole or not at all, under its digest."""
    with staged(ADAPTERS / "new") as folder:
        model.peft_config["default"].base_model_name_or_path = str(CHECKPOINT)  # not the folder it was merged in
        text.save(model, folder)
        manifest = seal(folder, line="text", kind="adapter", parents=parents, parameters=parameters, metrics=metrics)
    (ADAPTERS / "new").replace(ADAPTERS / manifest.digest)
    return manifest
