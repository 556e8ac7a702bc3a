"""Stage `train_text`: LoRA fine-tuning of the base language model on conversations.

The loop is `components.training.trainer`'s; here are the step, the optimizer and what a finished run leaves behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from peft import PeftModel
from torch import Tensor

from components import config
from components.artifact import Manifest, canonical, read_manifest, seal, staged, write_text
from components.data.pairs import Pair, read_pairs, repeated
from components.models.brought import opened
from components.models.language import (
    IGNORED,
    Batch,
    Chat,
    Encoded,
    adapted,
    add_adapter,
    collate,
    completion_losses,
    fitting,
    held_out_loss,
    load_base,
    preference_losses,
)
from components.paths import TEXT_BASE, TRAINING_STATE
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_METRICS as METRICS
from components.paths import TEXT_SPLIT as SPLIT
from components.stage import run
from components.training.trainer import Fitted, TrainingModule, discard, fit, is_writer, state_key, write_losses

STATE = TRAINING_STATE / "text"


class TextBatch(NamedTuple):
    """Rows of `pairs` pairs, and below them what users disliked instead of some; `liked_P` are the rows of those.

    `tokens`, `contrasts`: completion tokens and disliked answers of the whole step, divided by the number of ranks.
    """

    rows: Batch
    pairs: int
    liked_P: Tensor
    tokens: float
    contrasts: float


class Batches:
    """Makes a rank's batch of the samples with given indices, an equal share of those of a step."""

    def __init__(self, pairs: Sequence[Pair], chat: Chat) -> None:
        self.pad = chat.pad
        self.samples: list[Encoded] = []
        self.disliked: dict[int, Encoded] = {}
        for pair in pairs:
            self.samples += chat.encode_all(pair)
            if pair.rejected:
                self.disliked[len(self.samples) - 1] = chat.encode(replace(pair, completion=pair.rejected))
        self.tokens = [sum(label != IGNORED for label in labels[1:]) for _, labels in self.samples]

    def __call__(self, indices: list[int], step: list[int]) -> TextBatch:
        liked = [row for row, index in enumerate(indices) if index in self.disliked]
        rows = [self.samples[i] for i in indices] + [self.disliked[indices[row]] for row in liked]
        share = len(indices) / len(step)
        tokens = share * sum(self.tokens[index] for index in step)
        contrasts = share * sum(index in self.disliked for index in step)
        liked_P = torch.tensor(liked, dtype=torch.long)
        return TextBatch(collate(rows, self.pad), len(indices), liked_P, tokens, contrasts)


class TextModule(TrainingModule):
    """Loss on the completion's tokens alone, and on what users disliked instead; only the adapter is trained."""

    def __init__(self, model: PeftModel, settings: config.TrainText) -> None:
        super().__init__(settings)
        self.model, self.settings = model.train(), settings
        self.strict_loading = False  # a checkpoint holds the adapter; the frozen base comes from its own folder

    def loss(self, batch: TextBatch) -> Tensor:
        """A token weighs as much on one rank as on another, and so does a disliked answer.

        One forward pass over pairs and disliked answers, so that ranks with and without these stay in step.
        """
        summed_B, tokens_B = completion_losses(adapted(self.model), batch.rows)
        loss = summed_B[: batch.pairs].sum() / batch.tokens
        if batch.contrasts:
            mean_B = summed_B / tokens_B.clamp(min=1)
            contrasts_P = preference_losses(mean_B[batch.liked_P], mean_B[batch.pairs :])
            loss = loss + self.settings.preference_weight * contrasts_P.sum() / batch.contrasts
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.settings.learning_rate, weight_decay=0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {n: v for n, v in checkpoint["state_dict"].items() if n in trained}


def schedule(pairs: Sequence[Pair], settings: config.TrainText) -> tuple[list[Pair], config.TrainText]:
    """The pairs as often as they are seen, and the settings of the run: learned pairs come with steps of their own.

    The source's pairs are so seen as often as without them, or what they teach would be forgotten.
    """
    seen = repeated(pairs, settings.learned_share)
    source = sum(not pair.learned for pair in seen) or len(seen)
    return seen, settings.model_copy(update={"max_steps": round(settings.max_steps * len(seen) / source)})


def announce(seen: Sequence[Pair], run: config.TrainText, settings: config.TrainText) -> None:
    """Say how many steps a run takes, where these are not those that were set."""
    if run.max_steps != settings.max_steps and is_writer():
        share = sum(pair.learned for pair in seen) / len(seen)
        steps = f"{run.max_steps} steps; max_steps {settings.max_steps} are for the source's pairs"
        print(f"train text: {steps}, the others for learned ones, {share:.0%} of what is seen", flush=True)


def train(
    base: Path,
    chat: Chat,
    pairs: Sequence[Pair],
    settings: config.TrainText,
    *,
    state_dir: Path,
    key: str,
) -> tuple[PeftModel, Fitted]:
    """The adapted model after `settings.max_steps` on these pairs, and how it got there.

    The same settings give the same weights.
    """
    pl.seed_everything(settings.seed, verbose=False)
    batches = Batches(pairs, chat)
    module = TextModule(untrained(base, settings), settings)
    fitted = fit(module, len(batches.samples), batches, settings, state_dir=state_dir, key=key)
    model = untrained(base, settings)
    fitted.load_into(model, "model")
    return model.eval(), fitted


def untrained(base: Path, settings: config.TrainText) -> PeftModel:
    """The base, in the precision of the settings, with a fresh adapter in float32."""
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    return add_adapter(
        load_base(base, dtype), rank=settings.lora_rank, alpha=settings.lora_alpha, dropout=settings.lora_dropout
    )


def summarise(fitted: Fitted, validation_loss: float, pairs: int, max_steps: int) -> dict[str, float]:
    """The run in numbers; losses in nats per completion token, `loss` over the last tenth of the steps.

    `steps_for_learned`: those beyond the `max_steps` that were set.
    """
    losses = [loss for _, loss in fitted.losses]
    last = losses[-max(1, len(losses) // 10) :]
    return {
        "loss_first": losses[0],
        "loss": sum(last) / len(last),
        "validation_loss": validation_loss,
        "steps": len(losses),
        "steps_for_learned": len(losses) - max_steps,
        "pairs": pairs,
        "trained_parameters": sum(w.numel() for w in fitted.weights.values()),
    }


def save(model: PeftModel, folder: Path) -> None:
    """Write the adapter's weights and configuration, equal bytes for equal weights."""
    for written in model.peft_config.values():
        written.target_modules = sorted(written.target_modules or ())  # a set, in another order in each process
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # an empty model card that PEFT adds


def publish(
    model: PeftModel,
    chat: Chat,
    settings: config.TrainText,
    base: Manifest,
    parents: dict[str, str],
    metrics: dict[str, float],
) -> None:
    """Write the adapter as safetensors with its manifest, whole or not at all; `settings` are those of the run."""
    with staged(CHECKPOINT) as folder:
        save(model, folder)
        chat.format.write(folder)
        named = {name: base.parameters.get(name) for name in ("source", "family", "licence")}
        parameters = settings.model_dump() | {"base": named}
        seal(folder, line="text", kind="checkpoint", parents=parents, parameters=parameters, metrics=metrics)


def main() -> None:
    """Train on the split and write checkpoint, metrics and the loss curve."""
    settings = config.load().train.text
    base, manifest = opened(TEXT_BASE)
    parents = {"data": read_manifest(SPLIT).digest, "base": manifest.digest}
    chat = Chat.of_base(base, settings.system_prompt)
    every = read_pairs(SPLIT / "train.parquet")
    pairs = fitting(chat, every, settings.max_length)
    seen, run_settings = schedule(pairs, settings)
    announce(seen, run_settings, settings)
    key = state_key(run_settings.model_dump(), canonical(parents))
    model, fitted = train(base, chat, seen, run_settings, state_dir=STATE, key=key)
    if not is_writer():
        return
    held_out = read_pairs(SPLIT / "validation.parquet")
    loss = held_out_loss(adapted(model), chat, held_out)
    metrics = summarise(fitted, loss, len(pairs), settings.max_steps)
    metrics |= {"pairs_too_long": len(every) - len(pairs)}
    publish(model, chat, run_settings, manifest, parents, metrics)
    write_losses(METRICS / "train.csv", fitted.losses)
    write_text(METRICS / "train.json", canonical(metrics))
    discard(STATE)
    print(f"{CHECKPOINT}: loss {metrics['loss_first']:.3f} → {metrics['loss']:.3f}, held out {loss:.3f}")


if __name__ == "__main__":
    run(main)
