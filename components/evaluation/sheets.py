"""Pictures on one page, each above its words: what a person looks at beside the metrics."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLUMNS, CELL, WORDS = 8, 128, 44  # pictures per row; pixels of a picture's side and of the words below it


def sheet(pictures: Sequence[NDArray[np.uint8]], captions: Sequence[str]) -> Image.Image:
    """All pictures in rows, enlarged without smoothing, each above the start of its caption."""
    rows = -(-len(pictures) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + WORDS)), "white")
    draw = ImageDraw.Draw(page)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = number % COLUMNS * CELL, number // COLUMNS * (CELL + WORDS)
        page.paste(Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
        words = textwrap.wrap(caption.partition(":")[0], 20)[:3]
        draw.multiline_text((left + 4, top + CELL + 2), "\n".join(words), fill="black", spacing=1)
    return page
