"""A mask is cut as its picture is, and says of each latent how much of it is learnt."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from components.data.sample import Sample
from components.training.encoded import items, learnt, pixels


def png(values_HW: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values_HW.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def masked(height: int, width: int, left: int, right: int) -> Sample:
    """A picture that is white between two columns and black elsewhere, and is its own mask."""
    values_HW = np.zeros((height, width))
    values_HW[:, left:right] = 255
    return Sample("a", "a stripe", png(values_HW), mask=png(values_HW))


def test_a_mask_lies_where_its_picture_does() -> None:
    for height, width in ((200, 100), (90, 130), (64, 64)):
        (item,) = items([masked(height, width, width // 3, width // 2)], [64], 16)
        mask_11HW = learnt(item, 8)
        picture_11HW = functional.avg_pool2d(pixels(item)[:, :1] / 2 + 0.5, 8)
        assert not item.hidden and mask_11HW.shape == (1, 1, item.cut.size[0] // 8, item.cut.size[1] // 8)
        assert (mask_11HW - picture_11HW).abs().max() < 0.1 and mask_11HW.max() > 0.5


def test_a_picture_without_a_mask_is_learnt_whole_and_one_that_a_cut_hides_is_known() -> None:
    (item,) = items([Sample("a", "b", png(np.zeros((64, 64))))], [64], 16)
    assert torch.equal(learnt(item, 8), torch.ones(1, 1, 8, 8))
    (edge,) = items([masked(64, 70, 0, 1)], [64], 16)  # three columns are cropped off on each side
    assert edge.cut.corner == (0, 3) and edge.hidden
