"""What does not fit is refused with the arithmetic and the least change that does."""

from __future__ import annotations

import re

import pytest

from components.planner.fit import refuse_unless_fits
from components.planner.memory import Training, training
from components.planner.shape import read
from components.stage import StageError
from tests.components.planner.test_shape import CONFIG, headers

SHAPE = read(CONFIG, headers())
RUN = Training("lora", 8, "bf16", 16, 64)


def test_what_fits_is_told_what_it_takes() -> None:
    assert refuse_unless_fits(SHAPE, RUN, 8e9) == training(SHAPE, RUN)


@pytest.mark.parametrize(
    ("available", "words"),
    [
        (1.2e9, "1.20 GB are free (weights 0.28, gradients 0.01"),
        (1.2e9, "135 M parameters, 16 × 64 tokens): set batch_size to 8"),
        (0.1e9, "take a smaller model or a larger machine"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(available: float, words: str) -> None:
    with pytest.raises(StageError, match=re.escape(words)):
        refuse_unless_fits(SHAPE, RUN, available)


def test_every_weight_gives_way_to_an_adapter() -> None:
    with pytest.raises(StageError, match="train an adapter and not every weight"):
        refuse_unless_fits(SHAPE, Training("full", 8, "bf16", 1, 64), 1e9)
