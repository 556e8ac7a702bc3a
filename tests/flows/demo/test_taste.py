from __future__ import annotations

import inspect

import numpy as np

from flows.demo import taste
from flows.demo.taste import Taste, behave, like_picture, like_text

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
    for function in (like_text, like_picture, behave):
        assert not {"variant", "deployment", "latency", "headers"} & set(inspect.signature(function).parameters)
    assert "variant" not in inspect.getsource(taste).split('"""', 2)[2]


def test_what_is_liked_is_looked_at_longer_saved_more_and_asked_for_again_less() -> None:
    good, bad = ([behave(np.random.default_rng(seed), liking) for seed in range(300)] for liking in (0.9, 0.1))
    for kind, sign in (("dwell", 1), ("click", 1), ("save", 1), ("regenerate", -1)):
        difference = sum(one.get(kind, 0.0) for one in good) - sum(one.get(kind, 0.0) for one in bad)  # type: ignore[call-overload]
        assert sign * difference > 0
