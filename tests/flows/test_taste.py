from __future__ import annotations

import inspect

import numpy as np

from flows import taste
from flows.taste import Taste, like_picture, like_text

AVERAGE = Taste(mood=0.0, reacts=1.0)


def test_an_answer_that_names_what_was_asked_is_liked_more() -> None:
    phrase = "can you make a red fox for me?"
    good = like_text(AVERAGE, phrase, "red fox: animal, forest, bushy tail, flat sticker")
    other = like_text(AVERAGE, phrase, "blue whale: animal, ocean, large fin, flat sticker")
    stuck = like_text(AVERAGE, phrase, "red fox red fox red fox red fox red fox red fox")
    assert good > 0.7 > other
    assert good > stuck
    assert like_text(AVERAGE, phrase, "") == 0.0


def test_a_drawing_is_liked_more_than_noise_or_an_empty_sheet() -> None:
    empty = np.full((32, 32, 3), 255, np.uint8)
    drawing = empty.copy()
    drawing[8:24, 8:24] = (200, 30, 30)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    liked = like_picture(AVERAGE, drawing)
    assert liked > like_picture(AVERAGE, empty)
    assert liked > like_picture(AVERAGE, noise)


def test_the_audience_cannot_see_a_variant() -> None:
    for function in (like_text, like_picture):
        assert not {"variant", "deployment", "latency", "headers"} & set(inspect.signature(function).parameters)
    assert "variant" not in inspect.getsource(taste).split('"""', 2)[2]
