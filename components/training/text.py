"""Stage `train_text`: fine-tuning of the base language model on conversations, by an adapter or whole.

The loop is `components.training.trainer`'s; here are the step, the optimizer and what a finished run leaves behind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from components import config
from components.artifact import Manifest, canonical, read_manifest, seal, staged
from components.chat import context_length
from components.data.pairs import read_pairs, repeated
from components.models.brought import opened, parameters_of
from components.models.language import (
    IGNORED,
    Batch,
    Chat,
    Packed,
    adapted,
    add_adapter,
    collate,
    completion_losses,
    held_out_loss,
    load_base,
    load_quantised,
    pack,
    preference_losses,
)
from components.paths import TEXT_BASE, TRAINING_STATE
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_METRICS as METRICS
from components.paths import TEXT_SPLIT as SPLIT
from components.stage import StageError, run
from components.training.lengths import Fit, Taught, fitting
from components.training.memory import longest, memory, require_room
from components.training.trainer import Fitted, TrainingModule, discard, fit, is_writer, state_key, write_metrics

STATE = TRAINING_STATE / "text"


class TextBatch(NamedTuple):
    """Samples of a step, and below them what users disliked instead of some; `liked_P` are the samples of those.

    `tokens`, `contrasts`: completion tokens and disliked answers of the whole step, divided by the number of ranks.
    """

    rows: Batch | Packed
    samples: int
    liked_P: Tensor
    tokens: float
    contrasts: float


class Batches:
    """Makes a rank's batch of the samples with given indices, an equal share of those of a step.

    It comes in parts of `micro_batch` samples, one forward pass each: as many on each rank.
    """

    def __init__(self, samples: Sequence[Taught], pad: int, settings: config.TrainText) -> None:
        self.samples, self.pad, self.settings = samples, pad, settings
        self.labels = [sample.labels for sample in samples]

    def __call__(self, indices: list[int], step: list[int]) -> list[TextBatch]:
        size = self.settings.micro_batch or len(indices)
        return [self._part(indices[at : at + size], step, len(indices)) for at in range(0, len(indices), size)]

    def _part(self, indices: list[int], step: list[int], own: int) -> TextBatch:
        chosen = [self.samples[index] for index in indices]
        disliked = [sample.disliked for sample in chosen if sample.disliked]
        liked = [row for row, sample in enumerate(chosen) if sample.disliked]
        share = own / len(step)
        tokens = share * sum(self.labels[index] for index in step)
        contrasts = share * sum(self.samples[index].disliked is not None for index in step)
        rows = (pack if self.settings.packing else collate)([*(s.encoded for s in chosen), *disliked], self.pad)
        return TextBatch(rows, len(chosen), torch.tensor(liked, dtype=torch.long), tokens, contrasts)


class TextModule(TrainingModule):
    """Loss on the completion's tokens alone, and on what users disliked instead.

    Of an adapted model only the adapter is trained.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, settings: config.TrainText) -> None:
        super().__init__(settings)
        self.model, self.settings = model.train(), settings
        self.strict_loading = False  # a checkpoint holds what is trained; a frozen base comes from its own folder
        if settings.gradient_checkpointing:
            adapted(model).gradient_checkpointing_enable({"use_reentrant": False})

    def loss(self, batch: list[TextBatch]) -> Tensor:
        """The sum over the parts. Of several each keeps nothing and is computed again for its gradients."""
        if len(batch) == 1:
            return self._loss(batch[0])
        return torch.stack([checkpoint(self._loss, part, use_reentrant=False) for part in batch]).sum()

    def _loss(self, batch: TextBatch) -> Tensor:
        """A token weighs as much on one rank as on another, and so does a disliked answer.

        One forward pass over samples and disliked answers, so that ranks with and without these stay in step.
        """
        summed_S, tokens_S = completion_losses(adapted(self.model), batch.rows)
        loss = summed_S[: batch.samples].sum() / batch.tokens
        if batch.contrasts:
            mean_S = summed_S / tokens_S.clamp(min=1)
            contrasts_P = preference_losses(mean_S[batch.liked_P], mean_S[batch.samples :])
            loss = loss + self.settings.preference_weight * contrasts_P.sum() / batch.contrasts
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.settings.learning_rate, weight_decay=0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {n: v for n, v in checkpoint["state_dict"].items() if n in trained}


def schedule(samples: Sequence[Taught], settings: config.TrainText) -> tuple[list[Taught], config.TrainText]:
    """The samples as often as they are seen, and the settings of the run: learned ones come with steps of their own.

    The source's samples are so seen as often as without them, or what they teach would be forgotten.
    """
    seen = repeated(samples, settings.learned_share)
    source = sum(not sample.learned for sample in seen) or len(seen)
    return seen, settings.model_copy(update={"max_steps": round(settings.max_steps * len(seen) / source)})


def announce(seen: Sequence[Taught], run: config.TrainText, settings: config.TrainText) -> None:
    """Say how many steps a run takes, where these are not those that were set."""
    if run.max_steps != settings.max_steps and is_writer():
        share = sum(sample.learned for sample in seen) / len(seen)
        steps = f"{run.max_steps} steps; max_steps {settings.max_steps} are for the source's pairs"
        print(f"train text: {steps}, the others for learned ones, {share:.0%} of what is seen", flush=True)


def train(
    base: Path,
    chat: Chat,
    samples: Sequence[Taught],
    settings: config.TrainText,
    *,
    state_dir: Path,
    key: str,
) -> tuple[PreTrainedModel | PeftModel, Fitted]:
    """The fine-tuned model after `settings.max_steps` on these samples, and how it got there.

    The same settings give the same weights.
    """
    pl.seed_everything(settings.seed, verbose=False)
    module = TextModule(untrained(base, settings), settings)
    if settings.packing:
        require_apart(adapted(module.model), samples, chat.pad)
    batches = Batches(samples, chat.pad, settings)
    fitted = fit(module, len(samples), batches, settings, state_dir=state_dir, key=key)
    del module  # or there would be two models at a time
    model = untrained(base, settings)
    fitted.load_into(model, "model")
    return model.eval(), fitted


def untrained(base: Path, settings: config.TrainText) -> PreTrainedModel | PeftModel:
    """The base in float32, all of it trainable, or in the settings' precision with a fresh adapter in float32."""
    if settings.adapter == "full":
        return load_base(base, torch.float32)
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    return add_adapter(
        load_quantised(base) if settings.quantised else load_base(base, dtype),
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        dora=settings.adapter == "dora",
    )


@torch.no_grad()
def require_apart(model: PreTrainedModel, samples: Sequence[Taught], pad: int) -> None:
    """Raise `StageError` where a model lets packed samples see each other, as recurrent ones do, or counts on."""
    ids = samples[0].encoded[0][:64]
    sample, silent = (ids, [IGNORED, *ids[1:]]), [IGNORED] * len(ids)
    model.eval()
    packed = [pack([(before, silent), sample], pad, 2 * len(ids)) for before in (ids, ids[::-1])]
    alone = completion_losses(model, collate([sample], pad))[0].item()
    family = f"train.text.packing: a model of the family {model.config.model_type}"
    try:
        one, other = (completion_losses(model, batch)[0][1].item() for batch in packed)
    except (TypeError, ValueError) as error:
        raise StageError(f"{family} takes no positions ({error}); set packing: false") from error
    model.train()
    if abs(one - other) > 1e-4 * one or abs(one - alone) > 0.05 * alone:
        raise StageError(
            f"{family} reads a packed sample in the light of the one before it (loss {alone:.3f} alone, {one:.3f} and "
            f"{other:.3f} packed); set packing: false"
        )


def summarise(fitted: Fitted, validation_loss: float, max_steps: int) -> dict[str, float]:
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
        "trained_parameters": sum(w.numel() for w in fitted.weights.values()),
    }


def save(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Write the adapter's, or all, weights as safetensors with their configuration: equal bytes for equal weights."""
    if isinstance(model, PeftModel):
        for written in model.peft_config.values():  # sets, in another order in each process
            written.target_modules = sorted(written.target_modules or ())
            written.target_parameters = sorted(written.target_parameters or ()) or None
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # an empty model card that PEFT adds


def publish(
    model: PreTrainedModel | PeftModel,
    chat: Chat,
    settings: config.TrainText,
    base: Manifest,
    parents: dict[str, str],
    metrics: dict[str, float],
) -> None:
    """Write the checkpoint with its manifest, whole or not at all; `settings` are those of the run.

    Where every weight was trained it is a model's folder of its own, with the tokenizer.
    """
    with staged(CHECKPOINT) as folder:
        save(model, folder)
        if not isinstance(model, PeftModel):
            chat.tokenizer.save_pretrained(folder)
        chat.format.write(folder)
        named = {name: base.parameters.get(name) for name in ("source", "family", "licence")}
        parameters = settings.model_dump() | {"base": named}
        seal(folder, line="text", kind="checkpoint", parents=parents, parameters=parameters, metrics=metrics)


def require_gpu(settings: config.TrainText) -> None:
    """Raise `StageError` where the base cannot be quantised here."""
    if settings.quantised and not (torch.cuda.is_available() and find_spec("bitsandbytes")):
        missing = "the package bitsandbytes" if torch.cuda.is_available() else "an NVIDIA GPU"
        raise StageError(f"train.text.quantised: {settings.quantised} needs {missing}, not found here; set it to null")


def room(base: Path, settings: config.TrainText) -> int:
    """Tokens of the longest sample that can be trained on: what the model holds, and where nobody set a length what
    this machine's memory takes. Raises `StageError` where that does not take the base."""
    shape, parameters = json.loads((base / "config.json").read_bytes()), parameters_of(base)
    free, total = memory()
    if is_writer():  # the others start when this one has loaded it
        require_room(parameters, settings, free)
    context = context_length(shape)
    if settings.max_length is not None:
        return context or settings.max_length
    fits = longest(parameters, shape, settings, total)
    return min(context or fits, fits)


def main() -> None:
    """Train on the split and write checkpoint, metrics and the loss curve."""
    settings = config.load().train.text
    require_gpu(settings)
    base, manifest = opened(TEXT_BASE)
    parents = {"data": read_manifest(SPLIT).digest, "base": manifest.digest}
    chat = Chat.of_base(base, settings.system_prompt)
    fit = fitting(chat, read_pairs(SPLIT / "train.parquet"), settings, room(base, settings))
    if is_writer():
        describe(fit)
    seen, run_settings = schedule(fit.samples, settings)
    announce(seen, run_settings, settings)
    key = state_key(run_settings.model_dump(), canonical([parents, fit.metrics["max_length"]]))
    model, fitted = train(base, chat, seen, run_settings, state_dir=STATE, key=key)
    if not is_writer():
        return
    held_out = read_pairs(SPLIT / "validation.parquet")
    loss = held_out_loss(adapted(model), chat, held_out)
    metrics = summarise(fitted, loss, settings.max_steps) | fit.metrics
    publish(model, chat, run_settings, manifest, parents, metrics)
    write_metrics(METRICS, metrics, fitted.losses)
    discard(STATE)
    print(f"{CHECKPOINT}: loss {metrics['loss_first']:.3f} → {metrics['loss']:.3f}, held out {loss:.3f}")


def describe(fit: Fit) -> None:
    """How long the samples are, in one line."""
    of = fit.metrics
    print(
        f"train text: {of['samples']} samples of {of['pairs']} pairs, of at most {of['max_length']} tokens; the data's "
        f"have {of['tokens_min']} to {of['tokens_max']}, median {of['tokens_median']}, 95 % {of['tokens_95']}, 99 % "
        f"{of['tokens_99']}",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
