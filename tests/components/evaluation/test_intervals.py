"""Intervals over completions: they hold what is true as often as they say, and widen where tokens of one agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.evaluation.intervals import by_sample, interval, length_ratio, most_unseen, share


def test_the_truth_lies_within_as_often_as_is_said() -> None:
    rng, counts = np.random.default_rng(1), np.full(48, 10.0)
    found = [interval(share, rng.binomial(10, 0.9, 48).astype(float), counts) for _ in range(100)]
    assert 88 <= sum(low <= 0.9 <= high for low, high in found) <= 99


def test_whole_completions_are_drawn_as_their_tokens_are_alike() -> None:
    errors_N = torch.tensor([3.0, 3.0, 3.0, 1.0, 1.0, 1.0] * 8)
    alike, mixed = by_sample(errors_N.square(), [3] * 16), by_sample(errors_N.square(), [2, 1] * 16)
    assert alike.tolist() == [27.0, 3.0] * 8
    low, high = interval(length_ratio, alike, np.full(16, 3.0))
    assert low < np.sqrt(5) < high and low < 2.0 < 2.5 < high
    assert mixed.sum() == alike.sum()


def test_what_none_of_many_has_is_rare_and_what_none_of_few_has_need_not_be() -> None:
    assert most_unseen(59) == pytest.approx(0.05, abs=0.001)
    assert most_unseen(1) == pytest.approx(0.95)
