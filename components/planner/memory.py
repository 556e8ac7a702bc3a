"""Bytes that training and serving a language model take, part by part, as its loop here allocates them.

Pure. The count of activations is what autograd saves in transformers' Llama and Qwen3 blocks with
`scaled_dot_product_attention`, tensor by tensor; the same formulas stand for other families. `tests/bench/planner.py`
measures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.config.base import Precision, Strategy
from components.planner.shape import Shape

FLOAT = 4
BYTES = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True)
class Training:
    """A run of `batch` rows of `length` tokens over all devices; `answered` is the share of tokens that carry a loss.

    `micro`: rows of one pass on one device, of which a step takes as many as it needs, each computed twice.
    `padded`: rows of several lengths are in a batch, so that attention gets a mask.
    """

    trained: Literal["lora", "full"]
    rank: int
    precision: Precision
    batch: int
    length: int
    answered: float = 1.0
    padded: bool = True
    checkpointing: bool = False
    micro: int | None = None
    devices: int = 1
    strategy: Strategy = "auto"

    @property
    def rows(self) -> int:
        """Of a step, on one device."""
        return max(1, self.batch // self.devices)

    @property
    def tokens(self) -> int:
        """Of a pass, on one device."""
        return min(self.micro or self.rows, self.rows) * self.length

    @property
    def in_parts(self) -> bool:
        """Whether a step takes several passes."""
        return self.tokens < self.rows * self.length


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. `logits`: all that the loss makes of a batch's answers at once. `peak`: of the worst moment,
    less than the sum, for not everything is there at the same time.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    peak: float


def arithmetic(memory: Memory) -> str:
    """The parts of a training's peak, in GB and words."""
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "activations": memory.activations,
        "logits": memory.logits,
    }
    return ", ".join(f"{name} {value / 1e9:.2f}" for name, value in parts.items())


def training(shape: Shape, run: Training) -> Memory:
    """The moments of a step: the loss is computed while the last step's gradients are still there, its gradient begins
    when they are not, then gradients fill what activations leave, and at the end the optimiser works.
    """
    trained = shape.parameters if run.trained == "full" else shape.adapter(run.rank)
    weights = _weights(shape, run)
    shared = run.devices if run.strategy.startswith("deepspeed") else 1
    gradients = FLOAT * trained / shared + (FLOAT * trained if run.strategy == "ddp" else 0)  # DDP's buckets
    optimizer = 2 * FLOAT * trained / shared
    if run.strategy == "deepspeed_stage_3":
        weights /= run.devices
    activations = _activations(shape, run)
    loss = FLOAT * shape.vocabulary * run.tokens * run.answered
    fixed = weights + optimizer
    largest = FLOAT * (shape.embedding if run.trained == "full" else 0)
    moments = (
        fixed + gradients + activations + 2 * loss,
        fixed + activations + 3 * loss,
        fixed + activations + _backward(shape, run) + largest,
        fixed + gradients + 2 * largest / shared,
    )
    return Memory(weights, gradients, optimizer, activations, 3 * loss, max(moments))


def _weights(shape: Shape, run: Training) -> float:
    """LoRA's base is kept in the precision of the run; what is trained always in float32."""
    if run.trained == "full":
        return FLOAT * shape.parameters
    return BYTES[run.precision] * shape.parameters + FLOAT * shape.adapter(run.rank)


def _activations(shape: Shape, run: Training) -> float:
    """What autograd has saved at the end of the forward pass, without the logits."""
    full, cast = run.trained == "full", run.precision == "bf16"
    # Around the blocks, LoRA has the last norm's input more, and the first block's less, than a block in between.
    ends = (2 * FLOAT + BYTES[run.precision] * run.answered) * shape.hidden * run.tokens if full else 0
    ends += 2 * shape.embedding if full and cast else 0  # the output's matrix, cast
    if run.checkpointing:
        return shape.layers * _residual(run) * shape.hidden * run.tokens + ends
    return shape.layers * _block(shape, run) + ends


def _residual(run: Training) -> int:
    """Bytes of a value between blocks."""
    return FLOAT if run.trained == "full" else BYTES[run.precision]


def _block(shape: Shape, run: Training) -> float:
    """Bytes that a block saves."""
    size, full, cast = BYTES[run.precision], run.trained == "full", run.precision == "bf16"
    heads = shape.queries + shape.keys
    norms = (4 if full else 2) * FLOAT * shape.hidden + 2 * FLOAT
    if shape.normed_heads:
        norms += FLOAT * (heads + shape.heads + shape.kv_heads) + (size * heads if full else 0)
    # In bf16 each linear layer keeps a copy of its input, else those of the same input share it.
    inputs = size * shape.inputs / shape.layers if cast else size * (2 * shape.hidden + shape.intermediate)
    if cast and shape.expert:
        inputs += size * shape.intermediate
    if cast and full:
        inputs -= size * shape.queries  # attention's own output
    ranks = 0 if full else size * run.rank * _linears(shape)
    token = norms + inputs + ranks + size * _attention(shape, run) + FLOAT * shape.heads + size * _mlp(shape)
    return token * run.tokens + _casts(shape, run) / shape.layers


def _attention(shape: Shape, run: Training) -> int:
    """Values of a token: queries and output, and keys and values, repeated for each head where there is a mask."""
    if run.padded:
        return 4 * shape.queries + run.length
    return 2 * shape.queries + 2 * shape.keys


def _mlp(shape: Shape) -> int:
    """Beside the input of its last layer."""
    return (3 if shape.gated else 1) * shape.intermediate


def _linears(shape: Shape) -> int:
    """Linear layers of a block."""
    return 7 if shape.gated else 4


def _casts(shape: Shape, run: Training) -> float:
    """bf16 copies that a step's computation keeps of the float32 weights that it trains, all blocks together."""
    if run.precision == "fp32":
        return 0
    return 2 * (shape.linear + shape.expert if run.trained == "full" else shape.adapter(run.rank))


def _backward(shape: Shape, run: Training) -> float:
    """What a block's gradients take while they are computed: those of its MLP's three products, and of its input; and
    where it was not kept, all that it saves.
    """
    own = BYTES[run.precision] * (3 * shape.intermediate + 2 * shape.hidden) * run.tokens
    return own + (_block(shape, run) if run.checkpointing else 0)


@dataclass(frozen=True)
class Served:
    """Bytes of the weights, and of the keys and values of one token."""

    weights: float
    token: float

    def total(self, tokens: int) -> float:
        return self.weights + self.token * tokens


# Bytes of a weight in the blocks, and in embedding and output: of int4 every 64 share a float16 scale and a zero point.
FORMATS = {"int8": (1.0, 1.0), "int4": (0.5 + 2.5 / 64, 1.0), "fp16": (2.0, 2.0)}


def serving(shape: Shape, weight_format: str) -> Served:
    """Keys and values in 16 bits, as the engine here and engines for GPUs have them."""
    block, ends = FORMATS[weight_format]
    tables = shape.embedding * (1 if shape.tied else 2)
    return Served(block * (shape.parameters - tables) + ends * tables, 4 * shape.layers * shape.keys)
