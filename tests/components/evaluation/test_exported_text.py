"""An export is found to be the trained model, rounded, to the last matrix; and a matrix that is not, to be another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.data.pairs import Pair
from components.evaluation.exported_text import Distances, compare, distances
from components.export.text import convert
from components.models.language import collate, load_base
from tests.tiny_language import tiny_chat

PAIRS = [Pair(f"draw {name}", f"{name}: flat sticker", name) for name in ("apple", "heart", "rocket", "dog")]


def measured(
    base: Path, export: Path, weight_format: str = "int8", matrix: str = "mlp.down_proj", scale: float = 1.0
) -> Distances:
    """Of an export from its model, one matrix of which is changed afterwards: scaled, or by 0 has two rows swapped."""
    reference, chat = load_base(base, torch.float32), tiny_chat(base)
    weight_OI = reference.get_decoder().layers[1].get_submodule(matrix).weight.data
    weight_OI.copy_(weight_OI * scale if scale else weight_OI[[1, 0, *range(2, len(weight_OI))]])
    halves = [collate([chat.encode(pair) for pair in pairs], chat.pad) for pairs in (PAIRS[:2], PAIRS[2:])]
    return distances(compare(export, reference, halves, weight_format))


def test_rounding_explains_the_whole_of_an_honest_export(tiny_base: Path, tiny_export: Path) -> None:
    honest = measured(tiny_base, tiny_export)
    assert honest.unexplained < 0.001
    graph, rounding, (low, high) = honest.graph.values()
    assert 0.8 < graph / rounding < 1.2 and low < graph / rounding < high
    assert honest.tie > rounding > 0


@pytest.mark.parametrize(
    ("matrix", "scale"), [("mlp.down_proj", 1.01), ("self_attn.q_proj", 1.05), ("self_attn.k_proj", 0)]
)
def test_one_matrix_that_is_a_little_off_is_found(
    tiny_base: Path, tiny_export: Path, matrix: str, scale: float
) -> None:
    """On the shipped model 5 % on the matrix that shows least, a query's of layer 7, is 0.09 where 0.01 is allowed."""
    assert measured(tiny_base, tiny_export, matrix=matrix, scale=scale).unexplained > 0.02


def test_so_it_is_with_four_bits(tiny_base: Path, tmp_path: Path) -> None:
    convert(load_base(tiny_base, torch.float32), tiny_chat(tiny_base), tmp_path / "openvino", "int4")
    assert measured(tiny_base, tmp_path, "int4").unexplained < 0.01
    assert measured(tiny_base, tmp_path, "int4", scale=1.05).unexplained > 0.02
