"""The example folder is what a user might bring: line drawings with captions, readable as any user's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.data.example import COLOUR_ALONE, SIZE, outline, write_drawings
from components.data.folder import image_folder
from components.data.picture import decode, load
from components.data.sample import METADATA, Sample
from components.stage import StageError


def test_every_drawing_is_black_lines_of_a_named_concept(assets: Path, tmp_path: Path) -> None:
    rows = list(write_drawings(assets, 12, tmp_path))
    (tmp_path / METADATA).write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = list(image_folder(tmp_path))
    assert len(samples) == 12 and all(isinstance(s, Sample) and s.meta["concept"] and s.meta["name"] for s in samples)
    for s in samples:
        assert s.image is not None and load(s.image).size == (SIZE, SIZE)
        pixels = decode(s.image, SIZE).astype(int)
        assert np.ptp(pixels, axis=2).max() < 8, f"{s.text} has colours left"
        assert 0.01 < (pixels < 128).mean() < 0.5, f"{s.text} is blank or filled"
        assert s.meta["subgroup"] not in COLOUR_ALONE and s.text.startswith(s.meta["name"])
    assert rows == list(write_drawings(assets, 12, tmp_path))


def test_only_the_line_layers_are_left() -> None:
    layers = "".join(f'<g id="{name}"/>' for name in ("color", "line", "skin", "line-supplement"))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{layers}</svg>'
    assert outline(svg).count("id=") == 2 and 'id="line"' in outline(svg)


def test_more_drawings_than_there_are_is_refused(assets: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"example\.drawings: 9999, but only \d+ are there"):
        list(write_drawings(assets, 9999, tmp_path))
