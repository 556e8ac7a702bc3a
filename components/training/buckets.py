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

COARSEST = 64  # pixels between two shapes
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

    They are a sixteenth of that side apart, at most 64 pixels: more shapes would leave a few pictures to each. Of each
    width the greatest height; none beyond `WIDEST` to 1. Raises `ValueError` where there is none.
    """
    found, step = [], multiple * max(1, min(COARSEST, area_side // 16) // multiple)
    for width in range(step, int(area_side * math.sqrt(WIDEST)) + 1, step):
        height = area_side**2 // width // step * step
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

    In an epoch each sample is expected once, in a new order each time. What is left of a size after its whole batches
    makes one more, filled up with others of it, as often as it is a part of a batch: a rare shape has its share of the
    steps and no more.
    """

    def __init__(self, size_of: Sequence[tuple[int, int]], seed: int, batch_size: int) -> None:
        members: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, size in enumerate(size_of):
            members[size].append(index)
        self.members = [members[size] for size in sorted(members)]
        self.seed, self.batch_size = seed, batch_size
        self._begin()

    def _begin(self) -> None:
        self._epoch, self._first, self._batches = 0, 0, self._shuffled(0)

    def __call__(self, step: int) -> list[int]:
        if step < self._first:
            self._begin()
        while step >= self._first + len(self._batches):  # an epoch's number of batches is drawn, and may be 0
            self._first += len(self._batches)
            self._epoch += 1
            self._batches = self._shuffled(self._epoch)
        return self._batches[step - self._first]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(step_seed(self.seed, epoch, -1))
        batches = []
        for bucket in self.members:
            order = [bucket[place] for place in torch.randperm(len(bucket), generator=generator).tolist()]
            rest = len(order) % self.batch_size
            drawn = float(torch.rand((), generator=generator)) * self.batch_size
            end = len(order) if drawn < rest else len(order) - rest
            for start in range(0, end, self.batch_size):
                batches.append([order[(start + place) % len(order)] for place in range(self.batch_size)])
        return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
