"""The runtime interface: what serving, evaluation and parity checks know of a model, whatever engine runs it.

A runtime loads a digest-verified artifact directory. Time step, guidance and seed belong to each request; requests of
one batch may differ in all of them. Only the picture's size, which a model fixes, is a batch key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ImageRequest:
    """One picture to paint: `steps` of the sampler, `guidance` scale (1 = none), `seed` of its starting noise.

    `size`: the side in pixels, where a pipeline is to paint another than its own; the built-in network has one size.
    """

    prompt: str
    seed: int
    steps: int
    guidance: float
    size: int | None = None


@dataclass(frozen=True)
class TextRequest:
    """One completion: chat `messages` as (role, content), at most `max_new_tokens`, `temperature` 0 = greedy.

    `share`: of whom the engine does it, as a key, a slash and a user of it; all without one count as the same.
    `traced`: the result is to carry a `Trace`.
    """

    messages: tuple[tuple[str, str], ...]
    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    seed: int = 0
    share: str = ""
    traced: bool = False


@dataclass(frozen=True)
class Trace:
    """What an engine read and wrote, as tokens, and the log-probability (nats) that it gave to each it wrote.

    By the logits as the model puts them out: before temperature and top-p. The token that ended it is among `tokens`.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]


@dataclass(frozen=True)
class TextResult:
    """`finish_reason` is `stop` or `length`, as in OpenAI's API; token counts include special tokens."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    trace: Trace | None = None


class RequestRefusedError(ValueError):
    """The engine cannot take such a request, whoever sends it; nothing was started."""


class PromptTooLongError(RequestRefusedError):
    """The prompt has more tokens than are allowed, or with those asked for more than the model's context holds."""


class JobFailedError(RuntimeError):
    """The engine failed on this request alone, or gave it up; others are answered."""


class NotFiniteError(ArithmeticError):
    """Of a batch, `pictures` [size, size, 3] that could be painted, None where values came out NaN or infinite."""

    def __init__(self, requests: Sequence[ImageRequest], pictures: list[NDArray[np.uint8] | None]) -> None:
        bad = [request for request, picture in zip(requests, pictures, strict=True) if picture is None]
        super().__init__(
            f"{len(bad)} of {len(pictures)} pictures came out NaN or infinite, the first at guidance "
            f"{bad[0].guidance:g} in {bad[0].steps} steps from seed {bad[0].seed}: verify the artifact"
        )
        self.pictures = pictures


class ImageBackend(Protocol):
    """What an engine provides: prompts to states, and the network's forward pass."""

    def encode(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
        """(states_BLD, mask_BL): caption states and which of them are tokens (1) or padding (0)."""

    def velocity(self, latents_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats) -> Floats:
        """Velocity BCHW at each sample's own time, for RGB in [-1, 1]."""


class ImageRuntime(Protocol):
    """Paints batches of pictures; `multiple`: of what it paints other sides than its own, if it does (pixels)."""

    @property
    def multiple(self) -> int | None: ...

    def generate(self, requests: Sequence[ImageRequest]) -> list[NDArray[np.uint8]]:
        """One uint8 picture [size, size, 3] per request, in order; raises `NotFiniteError`."""

    def read_part(self, prompt: str) -> str | None:
        """What of a prompt it reads, where that is known and not all of it."""


class TextRuntime(Protocol):
    """Writes text; concurrent calls share the engine (continuous batching where the engine has it)."""

    def generate(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        """One result per request, in order."""

    def stream(self, request: TextRequest) -> AsyncIterator[str | TextResult]:
        """Pieces of text as they are written, then the whole `TextResult` as the last item."""
