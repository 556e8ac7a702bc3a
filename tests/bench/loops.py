"""Our training loop beside plain PyTorch, and packed steps beside padded ones: `make bench NAME=models`.

The plain loops are what one writes by hand: the same batches, precision, optimiser, clipping and averages, and no
checkpoints, learning rates, seeds of steps or records of losses. Both loops are in one process and take turns, step by
step; making a batch counts as ours. Writes `loops` and `packing` of `metrics/models.json`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from components import config
from components.config import TrainImage, TrainText
from components.data.pairs import read_pairs
from components.models import denoiser as denoisers
from components.models.brought import opened
from components.models.language import IGNORED, Chat, adapted, completion_losses
from components.paths import IMAGE_BASE, TEXT_BASE, TEXT_SPLIT
from components.stage import run
from components.training import image, pipeline, text, trainer
from components.training.encoded import Batch as Latents
from components.training.lengths import Taught, fitting
from components.training.text import Batches, TextModule
from components.training.trainer import BatchOf, TrainingModule
from tests.bench import sdxl
from tests.bench.planner import MODELS, write_base
from tests.bench.records import record
from tests.bench.timing import Load, interleaved_seconds, paired_ratio

MODELS["qwen3 8 M"] = ("qwen3", 8192, 256, 688, 8, 4, 2)
SHARE = 1 / 8  # of SDXL's widths
PICTURES, BATCH, SIZE = 64, 2, 128
Step = Callable[[Any], object]


class Loop(NamedTuple):
    """Our loop, and plain ones by name on the same batches."""

    what: str
    module: TrainingModule
    samples: int
    batch_of: BatchOf
    settings: TrainText | TrainImage
    plain: Mapping[str, Step]
    ema_decay: float | None = None


def take_turns(loop: Loop) -> dict[str, list[float]]:
    """Seconds of each step but the first: of our loop all that is between two batches, and making one.

    Lightning is a batch ahead: when it asks for one it has just taken the step of the last but one, which the plain
    loops then take.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", *loop.plain)}
    turns = list(loop.plain.items())
    made: list[Any] = []
    began = 0.0

    def batch_of(indices: list[int], step: list[int]) -> Any:
        nonlocal began
        if len(made) > 1:
            seconds["ours"].append(perf_counter() - began)
            for name, plain in turns:
                start = perf_counter()
                plain(made[-2])
                seconds[name].append(perf_counter() - start)
            turns.reverse()  # whoever goes last is the fastest by a hundredth, of equal ones
        began = perf_counter()
        made.append(loop.batch_of(indices, step))
        return made[-1]

    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(
            loop.module, loop.samples, batch_of, loop.settings, state_dir=Path(folder), key="bench",
            ema_decay=loop.ema_decay,
        )  # fmt: skip
    return {name: values[1:] for name, values in seconds.items()}


def compared(loop: Loop) -> dict[str, Any]:
    """How fast our loop is as a share of each plain one's speed."""
    with Load() as load:
        seconds = take_turns(loop)
    ours = seconds.pop("ours")
    row: dict[str, Any] = {"steps": len(ours), "step_seconds": sum(ours) / len(ours), "machine": load.machine()}
    for name, plain in seconds.items():
        row[name] = {"speed": asdict(paired_ratio(plain, ours)), "of_totals": sum(plain) / sum(ours)}
        ratio = row[name]["speed"]
        found = f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
        print(f"{loop.what}: {found} of the speed of {name}, {row['step_seconds']:.3f} s a step", flush=True)
    return row


def by_hand(module: nn.Module, rate: float, loss_of: Callable[[Any], Tensor], decay: float, ema: float | None) -> Step:
    """A step of a plain loop."""
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
    averages = [p.detach().clone() for p in trained] if ema else []

    def step(batch: Any) -> float:
        parts = batch if isinstance(batch, list) else [batch]
        optimizer.zero_grad()
        total = 0.0
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(part) / len(parts)
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if ema:
            get_ema_multi_avg_fn(ema)(averages, trained, 0)
        return total

    return step


def language(what: str, base: Path, samples: list[Taught], pad: int, settings: TrainText) -> Loop:
    """The plain loops differ in their loss: of the answers' tokens alone, or as transformers has it of all logits."""

    def of_answers(model: Any) -> Callable[[Any], Tensor]:
        def loss(part: Any) -> Tensor:
            summed_S, tokens_S = completion_losses(adapted(model), part.rows)
            return summed_S.sum() / tokens_S.sum()

        return loss

    def of_transformers(model: Any) -> Callable[[Any], Tensor]:
        return lambda part: (
            model(input_ids=part.rows.ids_BL, attention_mask=part.rows.mask_BL, labels=part.rows.labels_BL).loss
        )

    plain: dict[str, Step] = {}
    for name, loss_of in (("plain", of_answers), ("plain_with_transformers_loss", of_transformers)):
        model = text.untrained(base, settings).train()
        plain[name] = by_hand(model, settings.rate, loss_of(model), 0.0, None)
    module = TextModule(text.untrained(base, settings), settings)
    return Loop(what, module, len(samples), Batches(samples, pad, settings), settings, plain)


def smollm2(settings: TrainText, steps: int) -> Loop:
    base, _ = opened(TEXT_BASE)
    chat = Chat.of_base(base, settings.system_prompt)
    samples = fitting(chat, read_pairs(TEXT_SPLIT / "train.parquet"), settings, 512).samples
    return language("SmolLM2, LoRA", base, samples, chat.pad, settings.model_copy(update={"max_steps": steps}))


def qwen3(settings: TrainText, steps: int, folder: Path) -> Loop:
    shape = write_base("qwen3 8 M", folder)
    lengths = torch.randint(30, 66, (256,), generator=torch.Generator().manual_seed(0)).tolist()  # as shipped pairs are
    samples = [random_sample(length, shape.vocabulary) for length in lengths]
    return language("Qwen3 of 8 M, LoRA", folder, samples, 0, settings.model_copy(update={"max_steps": steps}))


def random_sample(length: int, vocabulary: int) -> Taught:
    ids = torch.randint(0, vocabulary, (length,)).tolist()
    return Taught((ids, [IGNORED] * (length // 2) + ids[length // 2 :]), None, False)


def sticker(settings: TrainImage, steps: int) -> Loop:
    """The built-in model, on random pictures."""
    settings = settings.decided(built_in=True).model_copy(update={"max_steps": steps})
    torch.manual_seed(0)
    size, tokens = settings.model.size, settings.model.text_tokens
    masks = torch.ones(PICTURES, 2, tokens, dtype=torch.long)
    states = torch.randn(PICTURES, 2, tokens, denoisers.TEXT_WIDTH)
    whole = image.Batch(torch.randint(0, 256, (PICTURES, 3, size, size)).byte(), states, masks)
    empty = states[0, 0], masks[0, 0]

    def network() -> nn.Module:
        return image.adapted(denoisers.load(IMAGE_BASE).train(), settings.lora_rank or 1)

    model = network()

    def loss(batch: image.Batch) -> Tensor:
        count = len(batch.pictures)
        rows, chosen = torch.arange(count), torch.randint(2, (count,))
        dropped = torch.rand(count) < settings.caption_dropout
        text_BLD = torch.where(dropped[:, None, None], empty[0], batch.states[rows, chosen])
        mask_BL = torch.where(dropped[:, None], empty[1], batch.masks[rows, chosen])
        data, time = batch.pixels(), image.logit_normal_times(count)
        with image.attention(data.device):
            return image.flow_loss(model, data, torch.randn_like(data), time, text_BLD, mask_BL)

    return Loop(
        "the built-in image model", image.FlowMatching(network(), empty, settings), PICTURES,
        lambda indices, step: whole.take(indices), settings,
        {"plain": by_hand(model, settings.rate, loss, 0.01, settings.ema_decay)}, settings.ema_decay,
    )  # fmt: skip


def pipelines(settings: TrainImage, steps: int, folder: Path) -> Loop:
    """As diffusers' own script trains LoRA of it: on noise alone, with gradients of a few pictures summed."""
    sdxl.write_sdxl(folder, SHARE)
    family, pictures, encoded = sdxl.family(), sdxl.pictures(PICTURES, SIZE), sdxl.encoded(folder, folder / "cache")
    encoded.fill(pictures, [item.sample.text for item in pictures])
    settings = settings.decided(built_in=False).model_copy(update={"max_steps": steps, "batch_size": BATCH})
    model = pipeline.network_of(family, folder, settings).train()
    schedule = family.scheduler(folder)

    def loss(part: Latents) -> Tensor:
        latents, states = part.latents, {name: value.bfloat16() for name, value in part.states.items()}
        noise, time = torch.randn_like(latents), torch.randint(0, 1000, (len(latents),))
        added = {"text_embeds": states["pooled"], "time_ids": states["time_ids"]}
        noisy = schedule.add_noise(latents, noise, time).bfloat16()
        output = model(noisy, time, states["prompt"], added_cond_kwargs=added, return_dict=False)[0]
        return functional.mse_loss(output.float(), noise)

    def one_by_one(batch: Latents) -> list[Latents]:
        size = settings.micro_batch or 1
        cuts = [slice(start, start + size) for start in range(0, len(batch.latents), size)]
        return [
            Latents(batch.latents[c], {n: v[c] for n, v in batch.states.items()}, batch.masks[c], batch.weights[c])
            for c in cuts
        ]

    step = by_hand(model, settings.rate, loss, 0.01, settings.ema_decay)
    module = pipeline.Training(
        pipeline.network_of(family, folder, settings), family, folder, encoded.of_caption(None), settings, None
    )
    return Loop(
        "an SDXL-shaped pipeline, LoRA", module, len(pictures),
        lambda indices, _: encoded.batch([pictures[index] for index in indices]), settings,
        {"plain": lambda batch: step(one_by_one(batch))}, settings.ema_decay,
    )  # fmt: skip


def packing(base: Path, settings: TrainText, rounds: int) -> dict[str, Any]:
    """Steps on conversations of mixed lengths, padded to the longest or packed."""
    vocabulary = write_base("qwen3 28 M", base).vocabulary
    generator = torch.Generator().manual_seed(0)
    lengths = (16 * torch.randn(256, generator=generator).mul(0.9).add(1.0).exp()).clamp(16, 256).int().tolist()
    samples = [random_sample(length, vocabulary) for length in lengths]
    tokens = {"padded": 0, "packed": 0}

    def steps(packed: bool) -> Callable[[], object]:
        own = settings.model_copy(update={"packing": packed, "batch_size": 8})
        module, batches = TextModule(text.untrained(base, own), own), Batches(samples, 0, own)
        optimizer, number = module.configure_optimizers(), iter(range(10**6))

        def step() -> None:
            indices = trainer.batch_indices(0, next(number), len(samples), own.batch_size)
            batch = batches(indices, indices)
            tokens["packed" if packed else "padded"] += batch[0].rows.ids_BL.numel()
            loss = module.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    with Load() as load:
        seconds = interleaved_seconds({"padded": steps(False), "packed": steps(True)}, rounds)
    row = {
        "speedup": asdict(paired_ratio(seconds["padded"], seconds["packed"])),
        "of_totals": sum(seconds["padded"]) / sum(seconds["packed"]),
        "tokens": sum(lengths) / len(samples) * 8 * (rounds + 1),
        **{f"tokens_{name}": count for name, count in tokens.items()},
        "longest": max(lengths),
        "median": sorted(lengths)[len(lengths) // 2],
        "machine": load.machine(),
    }
    print(f"packing: {row['of_totals']:.2f} times as fast, {tokens}", flush=True)
    return row


LOOPS = ("smollm2", "qwen3", "sticker", "sdxl")


def main(
    only: Annotated[str, typer.Option(help="such as qwen3,packing; the other figures stay as they are")] = "",
    scale: Annotated[float, typer.Option(help="of the number of steps")] = 1.0,
) -> None:
    """Time every loop, and packing."""
    params = config.load()
    chosen = only.split(",") if only else [*LOOPS, "packing"]
    language, pictures = params.train.text, params.train.image
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def steps(count: int) -> int:
            return max(6, round(count * scale)) + 3  # six pairs are the fewest that make an interval

        made: dict[str, Callable[[], Loop]] = {
            "smollm2": lambda: smollm2(language, steps(12)),
            "qwen3": lambda: qwen3(language, steps(42), folder / "qwen3"),
            "sticker": lambda: sticker(pictures, steps(30)),
            "sdxl": lambda: pipelines(pictures, steps(10), folder / "sdxl"),
        }
        for loop in (name for name in LOOPS if name in chosen):
            record(f"loop_{loop}", compared(made[loop]()))
        if "packing" in chosen:
            record("packing", packing(folder / "packing", language, max(6, round(8 * scale))))


if __name__ == "__main__":
    run(main)
