"""`atelier model show`: what a model is, what is missing, what runs it, and what it would take; in plain columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from components.config import Params, TrainText
from components.export.engines import picture_engines, text_engines
from components.models.brought import BUILT_IN
from components.models.card import Card
from components.models.described import card_of
from components.planner import machine, memory, speed
from components.planner.memory import Training, arithmetic
from components.planner.shape import Shape
from components.planner.speed import GB, Device
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
    elif card.line == "image":
        yield ""
        yield "memory and hours of image models are not planned"


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


def _plan(shape: Shape, context: int, params: Params) -> Iterator[str]:
    settings = params.train.text
    here = machine.probe(settings.precision)
    for trained, words in (("lora", f"LoRA, rank {settings.lora_rank}"), ("full", "every weight")):
        run = run_of(settings, trained)
        devices = f"{run.devices} device{'s' * (run.devices > 1)}, {run.strategy}"
        yield ""
        yield (
            f"to train {words}: {run.batch} × {run.length} tokens a step, {settings.max_steps} steps, {run.precision}, "
            f"{devices}"
        )
        yield from _row("  memory, GB", f"{arithmetic(memory.training(shape, run))}; not all of it at once")
        for device in (here, *speed.GPUS):
            yield _training(shape, run, settings.max_steps, device, device is here)
    weights = params.export.text.weight_format
    yield ""
    longest = (params.serving.text_max_prompt_tokens or context) + params.serving.text_max_new_tokens
    tokens = min(longest, context or longest)
    yield f"to serve a conversation of {tokens:,} tokens"
    yield _serving(shape, tokens, weights, here, CACHE_GB * 2**30)
    for device in speed.GPUS:
        yield _serving(shape, tokens, "fp16", device)
    yield ""
    yield from _assumptions(here)


def _training(shape: Shape, run: Training, steps: int, device: Device, here: bool) -> str:
    fitting = run if device.precision is None else replace(run, precision="fp32")
    needed = memory.training(shape, fitting).peak
    least, most = speed.training_hours(shape, fitting, steps, device)
    fits = _verdict(needed, device.memory, here)
    said = "" if here else f"  {UNPROVEN}{', fp32' * (fitting != run)}"
    size = f"{needed / GB:8.1f} of {device.memory / GB:3.0f} GB  {fits:12}"
    return f"  {device.name:20} {size}  {_hours(least)} to {_hours(most)}{said}"


def _verdict(needed: float, available: float, here: bool) -> str:
    """Here a process may have more than is in use."""
    if needed > available:
        return "DOES NOT FIT"
    return "may not fit" if here and needed * machine.KEPT > available else "fits"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{max(60 * hours, 0.1):.1f} min"


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


def _assumptions(here: Device) -> Iterator[str]:
    least, most = (f"{share:.0%}" for share in here.share)
    yield from _listed(
        "assumed",
        [
            f"{here.name}: {here.source}; a step reaches {least} to {most} of it, as measured on small models",
            f"its memory: glibc keeps freed blocks, so that a process had up to {machine.KEPT:g} times what is in use",
            f"GPUs: {speed.SHEET}; unproven: computed, not measured",
            "every sample has the full length and all of its tokens are learned: the most that it can take",
            "hours are an estimate; loading, evaluation and export come on top",
            "serving takes the weights and the keys and values of tokens; the engine's own buffers come on top",
            "a stream of answers is bound by reading the weights from memory; several at once share that",
        ],
    )
