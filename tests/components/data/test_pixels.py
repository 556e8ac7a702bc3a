"""Samples' pictures come as one tensor, in order, channels first."""

from __future__ import annotations

import torch
from PIL import Image

from components.data.picture import encode_png
from components.data.pixels import pixels
from components.data.sample import Sample


def test_pictures_come_in_order_and_in_the_size_that_is_asked_for() -> None:
    red, blue = (Sample(c, c, encode_png(Image.new("RGB", (16, 16), c))) for c in ("red", "blue"))
    found = pixels([red, blue], 8)
    assert found.shape == (2, 3, 8, 8) and found.dtype == torch.uint8 and found.is_contiguous()
    assert found[:, :, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
