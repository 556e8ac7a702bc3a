"""How fast the exported engines are beside PyTorch: `python -m tests.bench.engines`, on the models that
`dvc repro verify_text verify_image` has made and found at parity.

Every engine does the same work in every round, in turn: text engines read the same prompts and write exactly as many
tokens, image engines make the same forward pass. Writes `metrics/text/speed.json` and `metrics/image/speed.json`: no
results of a stage, as they depend on the machine and on what else it does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import GenerationConfig, PreTrainedModel

from components import config
from components.artifact import canonical, verify, write_text
from components.chat import Message
from components.data import sample
from components.data.pairs import read_pairs
from components.evaluation import verify_image
from components.models.brought import opened
from components.models.denoiser import Denoiser
from components.models.language import Chat, load_merged, prompt_batch
from components.paths import IMAGE_EXPORT, TEXT_BASE, TEXT_EXPORT
from components.paths import TEXT_CHECKPOINT as CHECKPOINT
from components.paths import TEXT_SPLIT as SPLIT
from components.runtimes.base import TextRequest
from components.runtimes.image import Sampler, load_sampler
from components.runtimes.pytorch import PyTorchBackend
from components.runtimes.text import OpenVinoText, load_text
from components.runtimes.trajectories import NAMES, Inputs, forward, requests_for, rows_taken, trajectory_inputs
from components.stage import run
from tests.bench.timing import Load, interleaved_seconds, paired_ratio

METRICS = Path("metrics")
ROUNDS = 10
NEW_TOKENS = 32  # written for each prompt, whatever the text says
STREAMS = (1, 8)
BATCHES = (1, 8, 32)
EAGER = "pytorch fp32 eager"


def compare(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Median seconds of each call, and how many times as fast each engine is as PyTorch: eager, and its best setting.

    Names of PyTorch's settings begin with `pytorch`.
    """
    seconds = interleaved_seconds(calls, rounds)
    medians = {name: median(values) for name, values in seconds.items()}
    best = min((name for name in medians if name.startswith("pytorch")), key=medians.__getitem__)
    engines = [name for name in calls if not name.startswith("pytorch")]
    return {
        "rounds": rounds,
        "seconds": medians,
        "best_pytorch": best,
        "speedup": {name: asdict(paired_ratio(seconds[EAGER], seconds[name])) for name in engines},
        "speedup_over_best_pytorch": {name: asdict(paired_ratio(seconds[best], seconds[name])) for name in engines},
    }


def pytorch_writer(
    model: PreTrainedModel, chat: Chat, conversations: Sequence[Sequence[Message]]
) -> Callable[[], object]:
    """A call that answers every conversation with `NEW_TOKENS` greedy tokens, all in one batch."""
    inputs = prompt_batch(chat, conversations)
    settings = GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=list(chat.format.ends),
        pad_token_id=chat.pad,
    )
    generator: Any = model  # PreTrainedModel does not declare `generate`; every causal model has it
    return lambda: generator.generate(**inputs, generation_config=settings)


@torch.inference_mode()
def text_speed(
    reference: PreTrainedModel,
    chat: Chat,
    runtime: OpenVinoText,
    phrases: Sequence[str],
    rounds: int,
) -> dict[str, Any]:
    """Tokens per second, prompt included, of PyTorch's settings and the runtime, by number of concurrent streams."""
    models = {EAGER: reference, "pytorch bf16": copy.deepcopy(reference).to(torch.bfloat16)}
    table: dict[str, Any] = {}
    for streams in STREAMS:
        chosen = [(("user", phrases[i % len(phrases)]),) for i in range(streams)]
        requests = [TextRequest(messages, NEW_TOKENS, temperature=0) for messages in chosen]
        calls = {name: pytorch_writer(model, chat, chosen) for name, model in models.items()}
        calls["openvino"] = partial(runtime.generate, requests, ignore_end=True)
        row = compare(calls, rounds)
        row["tokens_per_second"] = {name: streams * NEW_TOKENS / value for name, value in row.pop("seconds").items()}
        table[f"streams_{streams}"] = row
    return table


def pytorch_settings(network: Denoiser, inputs: Inputs) -> dict[str, Callable[[], object]]:
    """The reference's forward pass under several settings, to compare exports with the best of them too."""
    tensors = [torch.from_numpy(inputs[name]) for name in NAMES]
    traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, tensors)))

    def autocast() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return network(*tensors)

    return {
        EAGER: lambda: network(*tensors),
        "pytorch bf16 autocast": autocast,
        "pytorch fp32 frozen trace": lambda: traced(*tensors),
    }


@torch.inference_mode()
def image_speed(samplers: Mapping[str, Sampler], inputs: Inputs, rounds: int) -> dict[str, Any]:
    """Milliseconds a picture takes in one forward pass, by batch size; raises `TypeError` without PyTorch's sampler."""
    backend = samplers["pytorch"].backend
    if not isinstance(backend, PyTorchBackend):
        raise TypeError("the reference runs on PyTorch")
    table: dict[str, Any] = {}
    for batch in BATCHES:
        rows = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}
        calls = pytorch_settings(backend.network, rows)
        for name in verify_image.ENGINES:
            calls[name] = partial(forward, samplers[name].backend, rows)
        row = compare(calls, rounds)
        row["ms_per_image"] = {name: 1000 * value / batch for name, value in row.pop("seconds").items()}
        table[f"batch_{batch}"] = row
    return table


def measure_text(rounds: int) -> dict[str, Any]:
    """The text line's table, from the export and the checkpoint that it was made of."""
    digest = verify(TEXT_EXPORT).digest
    base, _ = opened(TEXT_BASE)
    chat = Chat.read(base, CHECKPOINT)
    reference, runtime = load_merged(base, CHECKPOINT, torch.float32), load_text(TEXT_EXPORT)
    phrases = [pair.phrase for pair in read_pairs(SPLIT / "test.parquet")[: max(STREAMS)]]
    try:
        with Load() as load:
            table = text_speed(reference, chat, runtime, phrases, rounds)
    finally:
        runtime.close()
    return {"export": digest, "new_tokens": NEW_TOKENS, "machine": load.machine(), **table}


def measure_image(rounds: int) -> dict[str, Any]:
    """The image line's table, on rows of real trajectories."""
    digest = verify(IMAGE_EXPORT).digest
    names = ("pytorch", *verify_image.ENGINES)
    samplers = {name: load_sampler(IMAGE_EXPORT, name) for name in names}
    params = config.load()
    captions = [row.text for row in sample.read(verify_image.TEST)][: params.verify.image.samples]
    requests = requests_for(captions, params.serving)
    reference = samplers["pytorch"]
    inputs = trajectory_inputs(reference, requests, len(requests) * rows_taken(params.serving))
    with Load() as load:
        table = image_speed(samplers, inputs, rounds)
    return {"export": digest, "machine": load.machine(), **table}


def main(rounds: Annotated[int, typer.Option(min=6, help="paired rounds")] = ROUNDS) -> None:
    """Measure both lines, write `metrics/<line>/speed.json`, and print the ratios."""
    for line, measure in (("text", measure_text), ("image", measure_image)):
        document = measure(rounds)
        write_text(METRICS / line / "speed.json", canonical(document))
        print(f"{line}: other work kept {document['machine']['cores_busy_with_other_work']:.2f} cores busy")
        for level, row in document.items():
            if not isinstance(row, dict) or "speedup" not in row:
                continue
            for engine, ratio in row["speedup"].items():
                bounds = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
                print(f"{line}, {level}: {engine} {ratio['ratio']:.2f} × {EAGER} ({bounds})")


if __name__ == "__main__":
    run(main)
