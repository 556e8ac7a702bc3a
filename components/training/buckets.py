"""Aspect-ratio buckets: pictures keep their shape, and a batch holds pictures of one size alone.

Pure: a picture's size is all that is known of it here. As in NovelAI's improvements on Stable Diffusion (2022), and in
what trains pipelines since.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from components.training.trainer import step_seed

WIDEST = 4.0  # to 1, as `clean` lets pass


@dataclass(frozen=True)
class Cut:
    """How a picture is fitted: resized to `resized`, of which a window of `size` at `corner` is kept.

    Each pair is height and width, or top and left, in pixels.
    """

    resized: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]


def sizes(area_side: int, multiple: int) -> list[tuple[int, int]]:
    """Heights and widths, multiples of `multiple`, whose area is at most that of a square of `area_side`.

    Of each width the greatest height; none beyond `WIDEST` to 1. Raises `ValueError` where there is none.
    """
    found = []
    for width in range(multiple, int(area_side * math.sqrt(WIDEST)) + 1, multiple):
        height = area_side**2 // width // multiple * multiple
        if height and max(height, width) <= WIDEST * min(height, width):
            found.append((height, width))
    if not found:
        raise ValueError(f"no size is a multiple of {multiple} and has at most the area of {area_side}×{area_side}")
    return found


def cut(original: tuple[int, int], buckets: Sequence[tuple[int, int]]) -> Cut:
    """Into the bucket of the nearest shape: resized to cover it, then the few pixels beyond it cropped evenly."""
    height, width = original
    nearest = min(buckets, key=lambda size: (abs(math.log(height * size[1] / (width * size[0]))), size))
    scale = max(nearest[0] / height, nearest[1] / width)
    resized = max(nearest[0], round(height * scale)), max(nearest[1], round(width * scale))
    corner = (resized[0] - nearest[0]) // 2, (resized[1] - nearest[1]) // 2
    return Cut(resized, corner, nearest)


class Order:
    """Which samples make up the batch of a step: a function of seed and step alone, so that a run can go on anywhere.

    In an epoch every sample is seen, in a new order each time; the last batch of a size is filled up with others of it.
    """

    def __init__(self, size_of: Sequence[tuple[int, int]], seed: int, batch_size: int) -> None:
        members: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, size in enumerate(size_of):
            members[size].append(index)
        self.members = [members[size] for size in sorted(members)]
        self.seed, self.batch_size = seed, batch_size
        self.batches = sum(-(-len(bucket) // batch_size) for bucket in self.members)  # of an epoch
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __call__(self, step: int) -> list[int]:
        epoch, position = divmod(step, self.batches)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffled(epoch))
        return self._epoch[1][position]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(step_seed(self.seed, epoch, -1))
        batches = []
        for bucket in self.members:
            order = [bucket[place] for place in torch.randperm(len(bucket), generator=generator).tolist()]
            for start in range(0, len(order), self.batch_size):
                batches.append([order[(start + place) % len(order)] for place in range(self.batch_size)])
        return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
