from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.data.filters import Candidate
from components.data.picture_rules import Aspect, Blank, Blurred


def candidate(picture: Image.Image) -> Candidate:
    found = Candidate("")
    found.picture = picture
    return found


def drawing(side: int) -> Image.Image:
    """Squares and a circle on white, sharp."""
    grid = np.indices((side, side)).sum(0) // (side // 8) % 2 * 200
    picture = Image.fromarray(np.stack([grid] * 3, -1).astype(np.uint8))
    picture.paste("orange", (side // 3, side // 3, side // 2, side // 2))
    return picture


def test_a_picture_beyond_the_ratio_is_too_wide_or_too_high() -> None:
    assert Aspect().fault(candidate(Image.new("RGB", (200, 100)))) == ""
    assert Aspect().fault(candidate(Image.new("RGB", (100, 201)))) == "picture of 100×201 pixels, beyond 2:1; crop it"
    assert Aspect(max_ratio=3).fault(candidate(Image.new("RGB", (100, 201)))) == ""


@pytest.mark.parametrize("colour", ["white", "black", "navy"])
def test_a_picture_of_one_colour_is_blank_whichever_it_is(colour: str) -> None:
    picture = Image.new("RGB", (40, 40), colour)
    assert "no two pixels differ by more than 0" in Blank(tolerance=0).fault(candidate(picture))
    noisy = Image.fromarray(np.asarray(picture) // 2 + np.arange(40, dtype=np.uint8)[:, None, None] % 8)
    assert Blank().fault(candidate(noisy)) and not Blank(tolerance=6).fault(candidate(noisy))
    picture.putpixel((3, 3), (90, 200, 90))
    assert Blank().fault(candidate(picture)) == ""


@pytest.mark.parametrize("side", [128, 512, 2048])
def test_a_blur_of_the_same_share_of_the_side_is_told_in_every_size(side: int) -> None:
    sharp = drawing(side)
    pale = sharp.point([100 + value // 10 for value in range(256)] * 3)
    blurred = sharp.filter(ImageFilter.GaussianBlur(side / 30))
    assert Blurred().fault(candidate(sharp)) == Blurred().fault(candidate(pale)) == ""
    assert "blurred picture: a sharpness of 0.00" in Blurred().fault(candidate(blurred))
    assert Blurred(min_sharpness=1e-6).fault(candidate(blurred)) == ""
    assert Blurred().fault(candidate(Image.new("RGB", (1, 1))))  # nothing to see
