"""The comparison of strategies on anybody's arrays, and how it counts what never gets there."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.figures import online
from tests.bench import annotation as bench
from tests.bench.annotation_replay import Curve
from tests.bench.annotation_strategies import STRATEGIES


def curve(strategy: str, seed: int, needed: int | None) -> Curve:
    """Ten looks, one every ten labels; the target is held from `needed` labels on."""
    labels = tuple(range(10, 101, 10))
    accuracies = tuple(0.9 if needed is not None and one >= needed else 0.5 for one in labels)
    return Curve(strategy, seed, labels, accuracies, full=0.9, pool=120, held_out=60)


def curves(**needed: list[int | None]) -> bench.Curves:
    return {name: [curve(name, seed, n) for seed, n in enumerate(each)] for name, each in needed.items()}


def test_savings_are_pairs_and_their_median_and_range_are_told() -> None:
    rows = bench.summary(curves(random=[40, 80, 50], margin=[20, 20, 50]))
    assert rows["margin"]["labels"] == 20
    assert [rows["margin"][key] for key in ("saved_low", "saved", "saved_high")] == [0, 0.5, 0.75]
    assert rows["random"]["saved"] == 0


def test_a_curve_that_never_gets_there_is_counted_and_lowers_the_median() -> None:
    rows = bench.summary(curves(random=[40, 80, 50, 80], margin=[20, None, None, 40]))
    assert rows["margin"]["censored"] == 2
    assert math.isinf(rows["margin"]["saved"]) and rows["margin"]["saved"] < 0
    assert math.isinf(rows["margin"]["labels"])


def test_a_censored_random_curve_counts_as_done_at_its_budget_which_understates() -> None:
    rows = bench.summary(curves(random=[None], margin=[50]))
    assert (rows["random"]["censored"], rows["margin"]["saved"]) == (1, 0.5)


def test_the_command_compares_all_strategies_on_a_file_of_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SEEDS", 2)
    y = np.random.default_rng(0).integers(3, size=150)
    x = 3 * np.eye(3)[y] + np.random.default_rng(1).normal(size=(150, 3))
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    out, plot = tmp_path / "deep" / "active.json", tmp_path / "pictures" / "active.png"
    bench.main(tmp_path / "mine.npz", out, plot)
    found = json.loads(out.read_text())
    assert set(found["data"]["mine"]["strategies"]) == set(STRATEGIES)
    assert found["setting"]["target"] == 0.95
    assert f"mine {found['data']['mine']['strategies']['mixed']['labels']:,.0f} in the place of" in online.active(found)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "mine: labels to 95% of the accuracy of all labels" in capsys.readouterr().out


def test_a_strategy_that_never_gets_there_is_marked_in_table_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = curves(random=[40, 80], margin=[None, None])
    bench.show("mine", bench.summary(both), 2)
    assert "2 of 2" in capsys.readouterr().out
    bench.draw([("mine", both)], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_curves_of_unequal_length_are_summed_up_and_drawn(tmp_path: Path) -> None:
    """Splits by group leave pools of different sizes."""
    both = curves(random=[40, 80], mixed=[20, 30])
    short = both["mixed"][1]
    both["mixed"][1] = replace(short, labels=short.labels[:-2], accuracies=short.accuracies[:-2])
    assert bench.summary(both)["mixed"]["saved"] == (0.5 + 0.625) / 2
    bench.draw([("mine", both)], tmp_path / "plot.png")
