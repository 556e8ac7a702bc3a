"""What a training takes of memory, so that a model too large is refused before it is loaded, with the arithmetic.

Weights, gradients and Adam's two moments follow from the number of parameters. What a forward pass keeps of a token is
measured: by autograd's own account 3.5 (LoRA, bf16) to 6.3 bytes (every weight) for each of 8 hidden + 3 intermediate
values of a layer, on Llama and Qwen3 of five shapes; the upper end is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import torch

from components.chat import of_text
from components.config import TrainImage, TrainText
from components.host_memory import host_memory
from components.stage import StageError

SPARE = 0.8  # share of the memory that is planned with: allocators and the system want the rest
PER_VALUE, PER_LOGIT = 6, 12  # bytes; logits are computed, made float32, and have a gradient


def memory() -> tuple[int, int]:
    """Bytes that are free now and that there are: of the GPU, else of this machine or container."""
    return torch.cuda.mem_get_info() if torch.cuda.is_available() else host_memory()


def of_weights(parameters: int, settings: TrainText) -> float:
    """Bytes of weights, gradients and optimiser on one device; an adapter's own are too few to count."""
    if settings.adapter != "full":
        return parameters * (0.6 if settings.quantised else 2 if settings.precision == "bf16" else 4)
    sharded = settings.devices if settings.strategy.startswith("deepspeed") else 1
    return parameters * (4 + 12 / sharded)


def of_a_token(config: Mapping[str, Any], settings: TrainText) -> float:
    """Bytes that a step keeps of a token, by the model's `config.json`."""
    config = of_text(config)
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    inner = int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    layer = PER_VALUE * (8 * hidden + 3 * inner)
    kept = 4 * hidden * layers + layer if settings.gradient_checkpointing else layer * layers
    return kept + PER_LOGIT * int(config.get("vocab_size") or 0)


def require_room(parameters: int, settings: TrainText, free: int) -> None:
    """Raise `StageError` where the weights alone are more than what is free."""
    weights = of_weights(parameters, settings) * sharing(settings)
    if weights > SPARE * free:
        what = "weights" if settings.adapter != "full" else "weights, gradients and Adam's two moments"
        raise StageError(
            f"the base has {parameters / 1e6:,.0f} M parameters with {of_weights(parameters, settings) / parameters:g} "
            f"bytes each for {what}, {sharing(settings)} times: {weights / 1e9:.2f} GB of the {free / 1e9:.2f} GB of "
            f"memory that are free, {SPARE:.0%} of which can be used; take a smaller base or a larger machine"
            + (", or set train.text.adapter: lora" if settings.adapter == "full" else "")
        )


def longest(parameters: int, config: Mapping[str, Any], settings: TrainText, total: int) -> int:
    """Tokens of the longest sample of which a device's share of a step fits beside the weights into `total` bytes.

    Raises `StageError` where the model's `config.json` names none of its sizes.
    """
    token = of_a_token(config, settings)
    if not token:
        raise StageError(
            "the base's config.json names no hidden_size, num_hidden_layers and vocab_size, so that nobody can say how "
            "long a sample fits into memory; set train.text.max_length"
        )
    samples = min(settings.micro_batch or settings.batch_size, ceil(settings.batch_size / settings.devices))
    left = SPARE * total / sharing(settings) - of_weights(parameters, settings)
    return max(0, int(left / (token * samples)))


def sharing(settings: TrainText) -> int:
    """Processes that train in one memory."""
    return 1 if torch.cuda.is_available() else settings.devices


def require_pipeline_room(parts: Mapping[str, int], network: str, settings: TrainImage, free: int) -> None:
    """Raise `StageError` where the weights alone of a pipeline's training are more than what is free.

    `parts`: parameters of each component. First the encoders are held, the VAE in float32, then the `network` alone.
    """
    frozen = 2 if settings.precision == "bf16" else 4
    trained = frozen if settings.lora_rank else 20 + 4 * (settings.strategy == "ddp")  # with gradients and three copies
    encoders = {name: 4 if name == "vae" else frozen for name in parts if name != network}
    processes = 1 if torch.cuda.is_available() else settings.devices
    for held in (encoders, {network: trained}):
        needed = processes * sum(parts[name] * each for name, each in held.items())
        if needed > SPARE * free:
            sizes = [
                f"{name} has {parts[name] / 1e6:,.0f} M parameters with {each} bytes each"
                for name, each in held.items()
                if parts[name]
            ]
            lora = "" if settings.lora_rank or network not in held else ", or set train.image.lora_rank"
            raise StageError(
                f"the pipeline's {', '.join(sizes)}, {processes} times: "
                f"{needed / 1e9:.2f} GB of the {free / 1e9:.2f} GB of memory that are free, {SPARE:.0%} of which can "
                f"be used; take a smaller pipeline or a larger machine{lora}"
            )
