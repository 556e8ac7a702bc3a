"""A sheet shows every picture, in order, above its words."""

from __future__ import annotations

import numpy as np

from components.evaluation.sheets import CELL, COLUMNS, WORDS, sheet


def test_the_sheet_leaves_no_picture_out() -> None:
    pictures = [np.full((4, 4, 3), 10 * number, np.uint8) for number in range(1, 12)]
    page = np.asarray(sheet(pictures, ["red apple: fruit"] * 11))
    assert page.shape == (2 * (CELL + WORDS), COLUMNS * CELL, 3)
    for number, picture in enumerate(pictures):
        top, left = number // COLUMNS * (CELL + WORDS), number % COLUMNS * CELL
        assert (page[top : top + CELL, left : left + CELL] == picture[0, 0]).all()
        assert (page[top + CELL : top + CELL + WORDS, left : left + CELL] < 128).any()
