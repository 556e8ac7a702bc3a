"""As much of what was learnt is kept as leaves recognisable what the base can paint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from components.data.picture import encode_png
from components.data.sample import Sample
from components.models.denoiser import Denoiser
from components.models.judge import Judge
from components.models.text_encoder import TextEncoder
from components.training import keeping
from components.training.keeping import between, painted, strongest
from tests.tiny_image import CAPTIONS, tiny_denoiser

SAMPLES = [Sample(text, text, encode_png(np.full((8, 8, 3), 9, np.uint8))) for text in CAPTIONS]


def tuned() -> Denoiser:
    network = tiny_denoiser()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    return network


def test_what_is_painted_leaves_the_network_as_it_was(tiny_encoder: Path) -> None:
    network = tiny_denoiser().train()
    pictures = painted(network, TextEncoder(tiny_encoder, 4), ["red dog", "blue dog", "red dog"], 7, (2, 1.0))
    assert pictures.shape == (3, 3, 8, 8) and pictures.dtype == torch.uint8 and network.training
    assert not torch.equal(pictures[0], pictures[2]), "each has its own noise"


@pytest.mark.parametrize(
    ("recognised", "strength"),
    [({1.0: 8, 0.75: 8, 0.5: 8}, 1.0), ({1.0: 2, 0.75: 7, 0.5: 8}, 0.5), ({1.0: 0, 0.75: 1, 0.5: 2, 0.25: 3}, 0.25)],
)
def test_the_strongest_network_that_is_recognised_is_taken(
    recognised: dict[float, int], strength: float, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of recognised pictures is planted, by how far the network's first weight is from the base's."""
    first = next(tiny_denoiser().parameters()).flatten()[0]

    def paint(network: Denoiser, encoder: object, prompts: Sequence[str], *how: object) -> Tensor:
        moved = round(float(next(network.parameters()).flatten()[0] - first), 2)
        return torch.full((len(prompts), 3, 8, 8), recognised[moved] if moved else len(prompts), dtype=torch.uint8)

    def named(judge: Judge, pictures_BCHW: Tensor, embeddings_BD: Tensor) -> Tensor:
        value = int(pictures_BCHW[0, 0, 0, 0])
        return torch.arange(len(pictures_BCHW)) < value

    monkeypatch.setattr(keeping, "LEAST_KNOWN", 4)
    monkeypatch.setattr(keeping, "painted", paint)
    monkeypatch.setattr(keeping, "named", named)
    encoder = TextEncoder(tiny_encoder, 4)
    network, chosen = strongest(tiny_denoiser(), tuned(), SAMPLES, CAPTIONS, encoder, Judge(), 7)
    expected = between(tiny_denoiser(), tuned(), strength).state_dict()
    assert chosen == strength
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_where_the_base_can_paint_none_of_the_things_all_is_kept(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "LEAST_KNOWN", len(SAMPLES) + 1)
    encoder, network, judge = TextEncoder(tiny_encoder, 4), tuned(), Judge().eval().requires_grad_(False)
    assert strongest(tiny_denoiser(), network, SAMPLES, CAPTIONS, encoder, judge, 7) == (network, 1.0)
