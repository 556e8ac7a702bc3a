"""Heads of both of LAION's shapes are read; a pickle, and a head of another encoder, are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.models import aesthetics
from components.stage import StageError


def linear(takes: int, gives: int, name: str = "") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(takes)
    return {
        f"{name}weight": torch.randn(gives, takes, generator=generator),
        f"{name}bias": torch.randn(gives, generator=generator),
    }


def test_layers_act_one_after_the_other(tmp_path: Path) -> None:
    one, two = linear(8, 4, "layers.2."), linear(4, 1, "layers.10.")
    save_file(one | two, tmp_path / "head.safetensors")
    given_BD = torch.randn(3, 8)
    inner_BD = given_BD @ one["layers.2.weight"].T + one["layers.2.bias"]
    expected_B1 = inner_BD @ two["layers.10.weight"].T + two["layers.10.bias"]
    assert torch.allclose(aesthetics.load(tmp_path / "head.safetensors", 8)(given_BD), expected_B1, atol=1e-5)
    save_file(linear(8, 1), tmp_path / "single.safetensors")
    assert aesthetics.load(tmp_path / "single.safetensors", 8)(given_BD).shape == (3, 1)


def test_a_head_whose_file_begins_as_a_pickle_does_is_none(tmp_path: Path) -> None:
    """The length of its header, 128, is the first byte of pickles."""
    save_file(linear(768, 1), tmp_path / "single.safetensors")
    assert (tmp_path / "single.safetensors").read_bytes()[:1] == b"\x80"
    assert aesthetics.load(tmp_path / "single.safetensors", 768)(torch.zeros(1, 768)).shape == (1, 1)


def test_a_pickle_is_refused_whatever_it_is_called_and_never_read(tmp_path: Path) -> None:
    for name in ("head.pth", "head.safetensors"):
        torch.save(linear(8, 1), tmp_path / name)
        with pytest.raises(StageError, match=rf"evaluate\.image\.aesthetics: .*{name} is a pickle"):
            aesthetics.load(tmp_path / name, 8)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (linear(8, 1), "embeddings have 16 values"),
        (linear(16, 2), "layers of 16 to 2"),
        (linear(16, 4, "layers.0.") | linear(5, 1, "layers.1."), "layers of 16 to 4, 5 to 1"),
        ({"head.weight": torch.zeros(1, 16)}, "holds head.weight; weight and bias are read"),
        ({"bias": torch.zeros(1)}, "are no linear layer"),
        ({}, "no layer"),
    ],
)
def test_another_head_is_refused_in_words(tmp_path: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    save_file(tensors, tmp_path / "head.safetensors")
    with pytest.raises(StageError, match=words):
        aesthetics.load(tmp_path / "head.safetensors", 16)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot be read as safetensors"):
        aesthetics.load(tmp_path / "nothing.safetensors", 16)
