"""Sentence embeddings for drift, from the MiniLM caption encoder that an image package carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.runtimes.captions import CaptionTokenizer
from components.runtimes.onnxruntime import session

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
BATCH = 64


def load_embed(package: Path) -> Embed | None:
    """A function from texts to unit vectors [N, D], or None where `package` carries no encoder."""
    graph = package / "encoder" / "encoder.onnx"
    if not graph.is_file():
        return None
    encoder = session(graph)
    # The graph takes as many tokens as the denoiser does: drift in what comes after them is not seen here.
    tokenize = CaptionTokenizer(package / "encoder" / "tokenizer.json", int(encoder.get_inputs()[0].shape[1]))

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(texts), BATCH):
            ids_BL, mask_BL = tokenize(texts[start : start + BATCH])
            states_BLD = encoder.run(None, {"ids": ids_BL, "mask": mask_BL})[0]
            parts.append(pool(states_BLD, mask_BL.astype(np.float32)))
        return np.concatenate(parts)

    return embed


def pool(states_BLD: NDArray[np.float32], mask_BL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the states of real tokens, scaled to length 1: how all-MiniLM-L6-v2 was trained to be read."""
    sums_BD = (states_BLD * mask_BL[:, :, None]).sum(axis=1)
    return (sums_BD / np.maximum(np.linalg.norm(sums_BD, axis=1, keepdims=True), 1e-12)).astype(np.float32)
