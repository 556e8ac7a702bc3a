"""A diffusers pipeline that was exported, as an `ImageRuntime`: what its engines have in common.

Knows no family and no engine: what there is to know of the pipeline stands in `pipeline.json`, which the export writes.
Pictures are painted one after another; a seed gives torch's noise, and so the picture that diffusers paints. Needs
neither torch nor diffusers, and so does no engine beside it.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from components.artifact import ArtifactError
from components.runtimes.base import Floats, ImageRequest, NotFiniteError

DESCRIPTION, FOLDER = "pipeline.json", "pipeline"
REPEATS = 50
LONGEST_WORD = 30  # characters: a script without spaces is cut inside of what stands between two of them
Precision = Literal["f32", "f16", "bf16"]
Keep = Callable[[int, Floats], None]  # is given each step's number and latents BCHW, which are its own to keep


class Description(BaseModel):
    """`size` is the side of native pictures, and all sides are multiples of `multiple` (pixels).

    `engine` runs it. `tokens`: how many of a prompt each tokenizer's encoder reads, by the tokenizer's folder.
    `sequence`: what the pipeline is to be told of it, where it takes that as a parameter. `steps` and `guidance` are
    those of service when it was exported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["openvino", "onnxruntime"] = "openvino"
    pipeline: str
    family: str
    scheduler: str
    weight_format: Literal["f32", "f16", "int8"]
    size: int
    multiple: int
    steps: int
    guidance: float
    tokens: dict[str, int]
    sequence: int | None

    @classmethod
    def read(cls, folder: Path) -> Description:
        try:
            return cls.model_validate_json((folder / DESCRIPTION).read_bytes())
        except (OSError, ValidationError) as error:
            raise ArtifactError(f"{folder}: no readable {DESCRIPTION}: {error}") from error


class PipelineRuntime(ABC):
    """`ImageRuntime` over the `pipeline/` of an exported folder whose digests were verified.

    `computes_in`: the type that its matrices are multiplied in.
    """

    computes_in: Precision = "f32"

    def __init__(self, folder: Path) -> None:
        self.description = Description.read(folder)
        self._tokenizers = [(_tokenizer(folder / FOLDER / name), n) for name, n in self.description.tokens.items()]
        self._one_at_a_time = threading.Lock()

    @property
    def multiple(self) -> int | None:
        return self.description.multiple

    def generate(self, requests: Sequence[ImageRequest]) -> list[NDArray[np.uint8]]:
        """One picture [size, size, 3] per request, in order; raises `NotFiniteError` once all are painted.

        The VAE makes NaN one flat colour, and nothing else that was ever painted one.
        """
        pictures = [self._whole(request, None) for request in requests]
        finite = [bool((picture != picture[0, 0]).any()) for picture in pictures]
        if not all(finite):
            raise NotFiniteError(requests, [p if fine else None for p, fine in zip(pictures, finite, strict=True)])
        return pictures

    def trajectory(self, request: ImageRequest) -> tuple[list[Floats], NDArray[np.uint8]]:
        """What the pipeline takes the picture's latents to be after each step, and the picture.

        GenAI drops calls that a fast step overtakes: it paints again, the same, until every step was seen.
        """
        latents: dict[int, Floats] = {}
        for _ in range(REPEATS):
            picture = self._whole(request, latents.__setitem__)
            if len(latents) == request.steps:
                return [latents[step] for step in range(request.steps)], picture
        raise RuntimeError(f"the engine told of {len(latents)} of {request.steps} steps in {REPEATS} pictures")

    def _whole(self, request: ImageRequest, keep: Keep | None) -> NDArray[np.uint8]:
        parts = [cut(tokenizer, limit, request.prompt) for tokenizer, limit in self._tokenizers]
        with self._one_at_a_time:
            return self._paint(request, request.size or self.description.size, parts, keep)

    @abstractmethod
    def _paint(self, request: ImageRequest, side: int, parts: list[str], keep: Keep | None) -> NDArray[np.uint8]:
        """A picture [side, side, 3]; `parts` is what each tokenizer's encoder reads of the prompt."""

    def read_part(self, prompt: str) -> str | None:
        """What of a prompt is read, where that is not all of it: as far as the encoder that reads most."""
        part = max((cut(tokenizer, limit, prompt) for tokenizer, limit in self._tokenizers), key=len)
        return None if part == prompt else part

    def shared_part(self, prompt: str) -> str:
        """What of a prompt every encoder reads: of it diffusers and this paint the same.

        Of longer ones diffusers reads up to the middle of a word, which can only be told in tokens.
        """
        return min((cut(tokenizer, limit, prompt) for tokenizer, limit in self._tokenizers), key=len)


def cut(tokenizer: Tokenizer, limit: int, prompt: str) -> str:
    """The start of `prompt`, whole words where there are several, that `limit` tokens (special ones too) hold.

    GenAI would cut the tokens and the end token with them, from which CLIP's encoders read the caption as a whole.
    """
    while len(encoding := tokenizer.encode(prompt)) > limit:
        marked = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        ends = [end for (_, end), special in marked if not special]
        room = limit - (len(encoding) - len(ends))
        start = prompt[: min(ends[room - 1] if room > 0 else 0, len(prompt) - 1)]
        inside = not prompt[len(start)].isspace()  # of a word
        space = start.rfind(" ", max(len(start) // 2, len(start) - LONGEST_WORD)) if inside else -1
        prompt = start[:space] if space > 0 else start
    return prompt


class TorchNoise:
    """`torch.randn` of a CPU generator with a seed, draw after draw, to the last bits of its logarithm.

    Mersenne Twister's numbers, of which 24 bits are used, by Box and Muller, eight at a time: a draw is a multiple of
    16 values.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed % 2**32)

    def draw(self, shape: tuple[int, ...]) -> Floats:
        raw = np.frombuffer(self._random.bytes(4 * math.prod(shape)), "<u4")
        uniform_G28 = ((raw & 0xFFFFFF).astype(np.float32) / np.float32(2**24)).reshape(-1, 2, 8)
        radius_G8 = np.sqrt(-2 * np.log(1 - uniform_G28[:, 0]))
        angle_G8 = np.float32(2 * np.pi) * uniform_G28[:, 1]
        return np.stack([radius_G8 * np.cos(angle_G8), radius_G8 * np.sin(angle_G8)], axis=1).reshape(shape)


def unpacked(latents: Floats) -> Floats:
    """Latents BCHW, also of a pipeline (FLUX) that holds them as patches of 2 by 2, square after square."""
    if latents.ndim == 4:
        return latents
    B, L, D = latents.shape
    side = math.isqrt(L)
    patches = latents.reshape(B, side, side, D // 4, 2, 2).transpose(0, 3, 1, 4, 2, 5)
    return patches.reshape(B, D // 4, 2 * side, 2 * side)


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def paints_pipeline(folder: Path) -> bool:
    """Whether an exported folder is a pipeline's, and not the built-in network's."""
    return (folder / DESCRIPTION).is_file()
