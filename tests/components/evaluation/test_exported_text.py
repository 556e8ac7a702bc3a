"""An export is found to be the trained model, rounded, to the last matrix; and a matrix that is not, to be another."""

from __future__ import annotations

from pathlib import Path

import torch

from components.data.pairs import Pair
from components.evaluation.exported_text import Distances, compare, distances
from components.export.text import convert
from components.models.language import collate, load_base
from tests.tiny_language import tiny_chat

PAIRS = [Pair(f"draw {name}", f"{name}: flat sticker", name) for name in ("apple", "heart", "rocket", "dog")]


def measured(base: Path, export: Path, weight_format: str = "int8", scale: float = 1.0) -> Distances:
    """Of an export from its model, one matrix of which is scaled afterwards."""
    reference, chat = load_base(base, torch.float32), tiny_chat(base)
    with torch.no_grad():
        reference.get_decoder().layers[1].mlp.down_proj.weight.mul_(scale)
    halves = [collate([chat.encode(pair) for pair in pairs], chat.pad) for pairs in (PAIRS[:2], PAIRS[2:])]
    return distances(compare(export, reference, halves, weight_format))


def test_rounding_explains_the_whole_of_an_honest_export(tiny_base: Path, tiny_export: Path) -> None:
    honest = measured(tiny_base, tiny_export)
    assert honest.unexplained < 0.001
    graph, rounding, (low, high) = honest.graph.values()
    assert 0.8 < graph / rounding < 1.2 and low < graph / rounding < high
    assert honest.tie > rounding > 0


def test_one_matrix_that_is_off_by_a_hundredth_is_found(tiny_base: Path, tiny_export: Path) -> None:
    assert measured(tiny_base, tiny_export, scale=1.01).unexplained > 0.02


def test_so_it_is_with_four_bits(tiny_base: Path, tmp_path: Path) -> None:
    convert(load_base(tiny_base, torch.float32), tiny_chat(tiny_base), tmp_path / "openvino", "int4")
    assert measured(tiny_base, tmp_path, "int4").unexplained < 0.01
    assert measured(tiny_base, tmp_path, "int4", scale=1.05).unexplained > 0.02
