"""Pictures and captions as a pipeline's network reads them: latents and prompt states, computed once and cached.

Each picture is cut into an aspect-ratio bucket of every size that is trained at. Encoders are in memory while something
is computed, and are released before the network is read. Knows nothing of training.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from components.data.picture import load
from components.data.sample import Sample
from components.models.pipelines import Family, States
from components.paths import ENCODED
from components.training import buckets
from components.training.buckets import Cut
from components.training.cache import Cache, Tensors, key_of

MOST_BYTES = 10 * 2**30  # of latents, and of states, that are kept where a training needs fewer


class Batch(NamedTuple):
    """Latents BCHW and, for each of them, the states that the network is conditioned on."""

    latents: Tensor
    states: States


@dataclass(frozen=True)
class Item:
    """One picture at one size."""

    sample: Sample
    original: tuple[int, int]  # height and width
    cut: Cut

    @property
    def enlarged(self) -> bool:
        return self.cut.resized[0] > self.original[0]


def items(samples: Sequence[Sample], area_sides: Sequence[int], multiple: int) -> list[Item]:
    """Every picture at every size, with the bucket that it is cut into."""
    found = []
    for sample in samples:
        width, height = load(sample.image or b"").size
        for side in area_sides:
            cut = buckets.cut((height, width), buckets.sizes(side, multiple))
            found.append(Item(sample, (height, width), cut))
    return found


def pixels(item: Item) -> Tensor:
    """The picture as 1CHW in [-1, 1], resized and cropped as its cut says."""
    (height, width), (top, left) = item.cut.size, item.cut.corner
    picture = load(item.sample.image or b"").resize(item.cut.resized[::-1], Image.Resampling.LANCZOS)
    picture = picture.crop((left, top, left + width, top + height))
    values = torch.from_numpy(np.array(picture, dtype=np.float32))
    return values.permute(2, 0, 1).unsqueeze(0) / 127.5 - 1


class Encoders:
    """A pipeline's VAE and text encoders, read when they are needed and released when they are not."""

    def __init__(self, family: Family, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        self.family, self.folder, self.dtype, self.device = family, folder, dtype, device
        self._pipeline: diffusers.DiffusionPipeline | None = None

    @property
    def pipeline(self) -> diffusers.DiffusionPipeline:
        if self._pipeline is None:
            read = self.family.read(self.folder, self.dtype, without=(self.family.network_name,))
            self._pipeline = read.to(self.device)
        return self._pipeline

    def release(self) -> None:
        self._pipeline = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Encoded:
    """Latents of pictures and states of captions, from the cache or computed.

    A key is the digest of what a value follows from: a picture's bytes, its cut and the VAE's files; a caption, the
    text encoders' files and the precision that they compute in.
    """

    def __init__(self, encoders: Encoders, files: Mapping[str, str], folder: Path = ENCODED) -> None:
        self.encoders, self.family = encoders, encoders.family
        names = self.family.encoders
        parts = {*names, *(name.replace("text_encoder", "tokenizer") for name in names), "model_index.json"}
        self._vae = {name: digest for name, digest in files.items() if name.startswith("vae/")}
        self._text = {name: digest for name, digest in files.items() if name.split("/")[0] in parts}
        self._items: dict[str, Item] = {}
        self._captions: dict[str, str | None] = {}
        self.latents = Cache(folder / "latents", self._compute_latents)
        self.states = Cache(folder / "states", self._compute_states)

    def fill(self, pictures: Sequence[Item], captions: Sequence[str]) -> tuple[int, int]:
        """Compute what is not there yet, then release the encoders; returns how many latents and states that were.

        Of what others have computed, as much is kept as there is room for beside it.
        """
        of_captions = [self._caption_key(caption) for caption in (None, *captions)]
        of_pictures = [self._item_key(item) for item in pictures]
        states, latents = self.states.fill(of_captions), self.latents.fill(of_pictures)
        self.encoders.release()
        self.states.prune({*of_captions}, MOST_BYTES)
        self.latents.prune({*of_pictures}, MOST_BYTES)
        return latents, states

    def of_caption(self, caption: str | None) -> States:
        """The states (one row) of a caption; of None, those without one."""
        return self.states[self._caption_key(caption)]

    def batch(self, pictures: Sequence[Item]) -> Batch:
        """Pictures of one size with their captions' states."""
        rows = [
            self.of_caption(item.sample.text) | self.family.framing(item.original, item.cut.corner, item.cut.size)
            for item in pictures
        ]
        latents = torch.cat([self.latents[self._item_key(item)]["latents"] for item in pictures])
        return Batch(latents, {name: torch.cat([row[name] for row in rows]) for name in rows[0]})

    def _item_key(self, item: Item) -> str:
        picture = hashlib.sha256(item.sample.image or b"").hexdigest()
        key = key_of("latents", picture, item.cut.resized, item.cut.corner, item.cut.size, self._vae)
        self._items[key] = item
        return key

    def _caption_key(self, caption: str | None) -> str:
        key = key_of("states", caption, str(self.encoders.dtype), self._text)
        self._captions[key] = caption
        return key

    def _compute_latents(self, key: str) -> Tensors:
        return {"latents": self.family.to_latents(self.encoders.pipeline, pixels(self._items[key])).cpu()}

    def _compute_states(self, key: str) -> Tensors:
        caption, pipeline = self._captions[key], self.encoders.pipeline
        states = self.family.unconditional(pipeline) if caption is None else self.family.encode(pipeline, [caption])
        return {name: value.cpu() for name, value in states.items()}


def sizes_in_words(pictures: Sequence[Item]) -> str:
    """How many pictures each bucket holds, the fullest first."""
    counts = Counter(item.cut.size for item in pictures).most_common()
    return ", ".join(f"{width}×{height}: {count}" for (height, width), count in counts)
