"""`atelier model show`: what a model is, what is missing, what runs it, and what it would take; in plain columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from components.config import Params, TrainImage, TrainText
from components.config.base import Precision
from components.export.engines import picture_engines, text_engines
from components.models.brought import BUILT_IN
from components.models.card import Card
from components.models.described import card_of
from components.planner import machine, memory, speed
from components.planner.memory import Training, arithmetic
from components.planner.shape import Shape
from components.planner.speed import GB, Device, Taken
from components.runtimes.text import CACHE_GB

WIDTH, NAME = 100, 16
LENGTH = 512  # tokens of a sample, where `params.yaml` leaves it to the data
UNPROVEN = "unproven"


def show(model: str, params: Params) -> Iterator[str]:
    """The lines of the page; raises `StageError` for what names no model."""
    bases = {params.base.text.model: params.base.text.licence, params.base.image.model: params.base.image.licence}
    licence = bases.get(model)
    card = card_of(model, licence)
    rows = {"model": model, **card.facts}
    yield from chain.from_iterable(_row(name, text) for name, text in rows.items())
    yield from _listed("missing", card.missing or ["nothing"])
    yield from _listed("engines", [f"{name}: {said}" for name, said in _engines(card).items()])
    if card.shape:
        yield from _plan(card.shape, card.context, params)
    elif card.pipeline:
        yield from _pipeline_plan(card.pipeline, card.parts, params)
    elif card.line == "image":
        yield ""
        yield "memory and hours of the built-in model are not planned: it trains in minutes"


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:{NAME}} ", subsequent_indent=" " * (NAME + 1)) or [name]


def _listed(name: str, texts: list[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield from _row("" if number else name, text)


def _engines(card: Card) -> dict[str, str]:
    if card.kind == BUILT_IN["image"]:
        return {"PyTorch": "the reference; trains", "OpenVINO": "serves", "ONNX Runtime": "serves"}
    return text_engines(card.kind) if card.line == "text" else picture_engines(card.kind)


def run_of(settings: TrainText, trained: str) -> Training:
    """The training that `params.yaml` describes, with every token of every sample in the loss: the most it can take."""
    return Training(
        trained="full" if trained == "full" else "lora",
        rank=settings.lora_rank,
        precision=settings.precision,
        batch=settings.batch_size,
        length=settings.max_length or LENGTH,
        devices=settings.devices,
        strategy=settings.strategy,
        checkpointing=settings.gradient_checkpointing,
        micro=settings.micro_batch,
    )


def training_plan(
    shape: Shape, settings: TrainText, here: Device, kinds: Sequence[str] = ("lora", "full")
) -> Iterator[str]:
    """What it takes to train a language model so, on this machine and on known ones."""
    named = {"lora": f"LoRA, rank {settings.lora_rank}", "full": "every weight"}
    for trained, words in ((kind, named[kind]) for kind in kinds):
        run = run_of(settings, trained)
        devices = f"{run.devices} device{'s' * (run.devices > 1)}, {run.strategy}"
        yield ""
        yield (
            f"to train {words}: {run.batch} × {run.length} tokens a step, {settings.max_steps} steps, {run.precision}, "
            f"{devices}"
        )
        yield from _row("  memory, GB", f"{arithmetic(memory.training(shape, run))}; not all of it at once")
        for device in (here, *speed.GPUS):
            fitting = run if device.precision is None else replace(run, precision="fp32")
            step = Taken(memory.training(shape, fitting).peak, speed.step_flops(shape, fitting))
            yield _training(step, settings.max_steps, device, fitting.precision, run.devices, device is here)


def _plan(shape: Shape, context: int, params: Params) -> Iterator[str]:
    here = machine.probe(params.train.text.precision)
    yield from training_plan(shape, params.train.text, here)
    weights = params.export.text.weight_format
    yield ""
    longest = (params.serving.text_max_prompt_tokens or context) + params.serving.text_max_new_tokens
    tokens = min(longest, context or longest)
    yield f"to serve a conversation of {tokens:,} tokens"
    yield _serving(shape, tokens, weights, here, CACHE_GB * 2**30)
    for device in speed.GPUS:
        yield _serving(shape, tokens, "fp16", device)
    yield ""
    yield from _listed("assumed", [*_assumed(here), *TEXT])


def pipeline_training_plan(folder: Path, settings: TrainImage, here: Device) -> Iterator[str]:
    """What it takes to train a pipeline's network, whose latents and prompt states are computed before."""
    from components.models import planned
    from components.models.pipelines import family_of

    family = family_of(folder)
    side = max(settings.sizes or (family.native_size(folder),))
    precisions: set[Precision] = {settings.precision, "fp32"}
    taken = {precision: planned.training(family, folder, settings, side, precision) for precision in precisions}
    yield ""
    what = f"an adapter of rank {settings.lora_rank}" if settings.lora_rank else "every weight"
    yield f"to train {what}: {settings.batch_size} pictures of {side} × {side} a step, {settings.micro_batch} at once,"
    yield (
        f"  {settings.max_steps} steps, {settings.precision}, {settings.devices} device{'s' * (settings.devices > 1)}, "
        f"{settings.strategy}; before it, text encoders and VAE are used once for each caption and picture"
    )
    for device in (here, *speed.GPUS):
        precision = device.precision or settings.precision
        step = taken[precision]
        yield _training(step, settings.max_steps, device, precision, settings.devices, device is here)


def _pipeline_plan(folder: Path, parts: dict[str, int], params: Params) -> Iterator[str]:
    from components.models import planned
    from components.models.pipelines import family_of

    family, settings, serving = family_of(folder), params.train.image.decided(built_in=False), params.serving
    native = family.native_size(folder)
    here = machine.probe(settings.precision)
    yield from pipeline_training_plan(folder, settings, here)
    yield ""
    yield f"to paint a picture of {native} × {native}, {serving.image_steps} steps"
    picture = planned.painting(family, folder, native, serving.image_steps)
    for device in (here, *speed.GPUS):
        stored = params.export.image.weight_format if device is here else "f16"
        whole = Taken(picture.memory + planned.BYTES[stored] * sum(parts.values()), picture.flops)
        yield _painting(whole, stored, device, device.precision or settings.precision)
    yield ""
    yield from _listed("assumed", [*_assumed(here), *PICTURES])


PICTURES = [
    "a step's memory and operations are traced with PyTorch's own, without weights; a GPU's attention may keep less",
    "painting computes in float32 here; the engine's own copies come on top, and several pictures at once take more",
]


def _training(step: Taken, steps: int, device: Device, precision: Precision, devices: int, here: bool) -> str:
    """`step`: what one takes, over all devices of operations and on each of memory."""
    least, most = speed.seconds(steps * step.flops, precision, device, devices)
    fits = _verdict(step.memory, device.memory, here)
    said = "" if here else f"  {UNPROVEN}{', fp32' * (device.precision is not None)}"
    size = f"{step.memory / GB:8.1f} of {device.memory / GB:3.0f} GB  {fits:12}"
    return f"  {device.name:20} {size}  {_time(least)} to {_time(most)}{said}"


def _painting(picture: Taken, stored: str, device: Device, precision: Precision) -> str:
    least, most = speed.seconds(picture.flops, precision, device)
    said = f"  {UNPROVEN}" * (device.source == speed.SHEET)
    size = f"{picture.memory / GB:8.2f} of {device.memory / GB:3.0f} GB {stored:5}"
    return f"  {device.name:20} {size}  {_time(least)} to {_time(most)}{said}"


def _verdict(needed: float, available: float, here: bool) -> str:
    """Here a process may have more than is in use."""
    if needed > available:
        return "DOES NOT FIT"
    return "may not fit" if here and needed * machine.KEPT > available else "fits"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{max(seconds, 0.1):.1f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _serving(shape: Shape, tokens: int, weights: str, device: Device, cache: float | None = None) -> str:
    """`cache`: bytes of keys and values that the engine keeps at most; else what the weights leave."""
    served = memory.serving(shape, weights)
    left = min(device.memory - served.weights, cache or device.memory)
    least, most = speed.tokens_per_second(served.total(tokens), device)
    more = max(0, int(left // (served.token * tokens)))
    size = f"{served.total(tokens) / GB:8.2f} GB {weights:5} {more:8,} at once"
    said = f"  {UNPROVEN}" * (device.source == speed.SHEET)
    return f"  {device.name:20} {size}  {_speed(least)} to {_speed(most)} tokens/s{said}"


def _speed(tokens: float) -> str:
    return f"{tokens:,.0f}" if tokens >= 10 else f"{tokens:.1f}"


def _assumed(here: Device) -> list[str]:
    """Of every line."""
    least, most = (f"{share:.0%}" for share in here.share)
    return [
        f"{here.name}: {here.source}; a step reaches {least} to {most} of it, as measured on small models",
        f"its memory: glibc keeps freed blocks, so that a process had up to {machine.KEPT:g} times what is in use",
        f"GPUs: {speed.SHEET}; unproven: computed, not measured",
        "hours are an estimate; loading, evaluation and export come on top",
    ]


TEXT = [
    "every sample has the full length and all of its tokens are learned: the most that it can take",
    "serving takes the weights and the keys and values of tokens; the engine's own buffers come on top",
    "a stream of answers is bound by reading the weights from memory; several at once share that",
]
