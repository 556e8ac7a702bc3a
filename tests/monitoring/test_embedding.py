from __future__ import annotations

from pathlib import Path

import numpy as np

from monitoring.embedding import load_embed, pool


def test_padding_does_not_move_an_embedding() -> None:
    states = np.random.default_rng(0).normal(size=(1, 3, 4)).astype(np.float32)
    padded = np.concatenate([states, np.full((1, 5, 4), 9, np.float32)], axis=1)
    mask = np.array([[1, 1, 1, 0, 0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(pool(padded, mask), pool(states, np.ones((1, 3), np.float32)), rtol=1e-6)
    assert np.linalg.norm(pool(padded, mask)) == np.float32(1)


def test_without_an_encoder_there_is_no_embedding(tmp_path: Path) -> None:
    assert load_embed(tmp_path) is None
