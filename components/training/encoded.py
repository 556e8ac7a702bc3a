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
from torch.nn import functional

from components.data.picture import load, load_mask
from components.data.sample import Sample
from components.models.pipelines import Family, States
from components.paths import ENCODED
from components.training import buckets
from components.training.buckets import Cut
from components.training.cache import Cache, Tensors, key_of

MOST_BYTES = 10 * 2**30  # of latents, of states and of masks, that are kept where a training needs fewer


class Batch(NamedTuple):
    """Latents BCHW and, for each of them, the states that the network is conditioned on.

    `masks` B1HW say how much of the loss at each place counts (0 to 1), `weights` B how much of the whole sample's.
    """

    latents: Tensor
    states: States
    masks: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Item:
    """One picture at one size; `hidden` where its mask leaves nothing of the part that the cut keeps."""

    sample: Sample
    original: tuple[int, int]  # height and width
    cut: Cut
    hidden: bool = False
    weight: float = 1.0

    @property
    def enlarged(self) -> bool:
        return self.cut.resized[0] > self.original[0]


def items(samples: Sequence[Sample], area_sides: Sequence[int], multiple: int, weight: float = 1.0) -> list[Item]:
    """Every picture at every size, with the bucket that it is cut into."""
    found = []
    for sample in samples:
        width, height = load(sample.image or b"").size
        mask = load_mask(sample.mask) if sample.mask else None
        for side in area_sides:
            cut = buckets.cut((height, width), buckets.sizes(side, multiple))
            hidden = mask is not None and fitted(mask, cut, Image.Resampling.BILINEAR).getbbox() is None
            found.append(Item(sample, (height, width), cut, hidden, weight))
    return found


def fitted(picture: Image.Image, cut: Cut, resampling: Image.Resampling) -> Image.Image:
    """The picture resized and cropped as its cut says."""
    (height, width), (top, left) = cut.size, cut.corner
    return picture.resize(cut.resized[::-1], resampling).crop((left, top, left + width, top + height))


def pixels(item: Item) -> Tensor:
    """The picture as 1CHW in [-1, 1]."""
    picture = fitted(load(item.sample.image or b""), item.cut, Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(picture, dtype=np.float32))
    return values.permute(2, 0, 1).unsqueeze(0) / 127.5 - 1


def learnt(item: Item, factor: int) -> Tensor:
    """How much of the picture is learnt, 11HW in [0, 1]: of each latent, `factor` pixels wide, its mask's mean."""
    if item.sample.mask is None:
        height, width = item.cut.size
        return torch.ones(1, 1, height // factor, width // factor)
    mask = fitted(load_mask(item.sample.mask), item.cut, Image.Resampling.BILINEAR)
    values_HW = torch.from_numpy(np.array(mask, dtype=np.float32)) / 255
    return functional.avg_pool2d(values_HW[None, None], factor)


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
    """Latents and masks of pictures and states of captions, from the cache or computed.

    A key is the digest of what a value follows from: a picture's bytes, its cut and the VAE's files; a mask's bytes and
    the cut; a caption, the text encoders' files and the precision that they compute in.
    """

    def __init__(self, encoders: Encoders, files: Mapping[str, str], folder: Path = ENCODED) -> None:
        self.encoders, self.family = encoders, encoders.family
        names = self.family.encoders
        parts = {*names, *(name.replace("text_encoder", "tokenizer") for name in names), "model_index.json"}
        self._vae = {name: digest for name, digest in files.items() if name.startswith("vae/")}
        self._text = {name: digest for name, digest in files.items() if name.split("/")[0] in parts}
        self._items: dict[str, Item] = {}
        self._captions: dict[str, str | None] = {}
        self._factor = self.family.factor(encoders.folder)
        self.latents = Cache(folder / "latents", self._compute_latents)
        self.masks = Cache(folder / "masks", self._compute_mask)
        self.states = Cache(folder / "states", self._compute_states)

    def fill(self, pictures: Sequence[Item], captions: Sequence[str]) -> tuple[int, int]:
        """Compute what is not there yet, then release the encoders; returns how many latents and states that were.

        Of what others have computed, as much is kept as there is room for beside it.
        """
        of_captions = [self._caption_key(caption) for caption in (None, *captions)]
        of_pictures = [self._item_key(item) for item in pictures]
        of_masks = [self._mask_key(item) for item in pictures]
        states, latents = self.states.fill(of_captions), self.latents.fill(of_pictures)
        self.masks.fill(of_masks)
        self.encoders.release()
        self.states.prune({*of_captions}, MOST_BYTES)
        self.latents.prune({*of_pictures}, MOST_BYTES)
        self.masks.prune({*of_masks}, MOST_BYTES)
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
        masks = torch.cat([self.masks[self._mask_key(item)]["mask"] for item in pictures])
        states = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        return Batch(latents, states, masks, torch.tensor([item.weight for item in pictures]))

    def _item_key(self, item: Item) -> str:
        picture = hashlib.sha256(item.sample.image or b"").hexdigest()
        key = key_of("latents", picture, item.cut.resized, item.cut.corner, item.cut.size, self._vae)
        self._items[key] = item
        return key

    def _mask_key(self, item: Item) -> str:
        """One for all pictures of a size that have no mask."""
        mask = item.sample.mask and hashlib.sha256(item.sample.mask).hexdigest()
        cut = (item.cut.resized, item.cut.corner, item.cut.size) if mask else item.cut.size
        key = key_of("mask", mask, cut, self._factor)
        self._items[key] = item
        return key

    def _caption_key(self, caption: str | None) -> str:
        key = key_of("states", caption, str(self.encoders.dtype), self._text)
        self._captions[key] = caption
        return key

    def _compute_latents(self, key: str) -> Tensors:
        return {"latents": self.family.to_latents(self.encoders.pipeline, pixels(self._items[key])).cpu()}

    def _compute_mask(self, key: str) -> Tensors:
        return {"mask": learnt(self._items[key], self._factor)}

    def _compute_states(self, key: str) -> Tensors:
        caption, pipeline = self._captions[key], self.encoders.pipeline
        states = self.family.unconditional(pipeline) if caption is None else self.family.encode(pipeline, [caption])
        return {name: value.cpu() for name, value in states.items()}


def sizes_in_words(pictures: Sequence[Item]) -> str:
    """How many pictures each bucket holds, the fullest first."""
    counts = Counter(item.cut.size for item in pictures).most_common()
    return ", ".join(f"{width}×{height}: {count}" for (height, width), count in counts)
