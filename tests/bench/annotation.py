"""Labels saved by each strategy against random choice: `make bench NAME=annotation`; `--data` for your own arrays.

Fixed before any run: the target is 95 % of the accuracy that all labels give, held for two batches in a row; six seeds,
each a split and a start that all strategies share. Savings are pairs within a seed; with six, the range from the least
to the most covers the median with 97 % (Conover 1999, order statistics), whatever the distribution. A curve that does
not get there in its budget is censored: counted, never dropped; against a censored random curve a saving is a bound.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy import stats
from sklearn.utils.parallel import Parallel, delayed

from components.annotation.stopping import POINT, POINTS, outlook
from components.artifact import write_text
from components.stage import run
from tests.bench.annotation_datasets import built_in, from_file
from tests.bench.annotation_replay import BATCH, BUDGET_SHARE, TARGET, Curve, Dataset, replay, strength
from tests.bench.annotation_strategies import DEFAULT, STRATEGIES

OUT = Path("metrics/annotation/active.json")
PLOT = Path("docs/active.png")
SEEDS = 6
COLOURS = {
    "random": "black",
    "margin": "tab:orange",
    "typiclust": "tab:green",
    "badge": "tab:purple",
    DEFAULT: "tab:blue",
}
JUDGED_AT = 0.25  # of the pool, where the stopping rule's forecast is compared with what all labels gave

Curves = dict[str, list[Curve]]


def compare(data: Dataset) -> Curves:
    """All strategies on all seeds, the curves of each in the order of the seeds."""
    chosen = strength(data)
    jobs = [(name, seed) for name in STRATEGIES for seed in range(SEEDS)]
    curves = Parallel(n_jobs=-1)(delayed(replay)(data, name, seed, chosen) for name, seed in jobs)
    return {name: [curve for curve in curves if curve.strategy == name] for name in STRATEGIES}


def saved(curve: Curve, by_chance: Curve) -> float:
    """Share of random's labels that a strategy saves in the same seed.

    Where random is censored it counts as done at its budget's end, which understates; a strategy that never gets there
    counts as having saved less than nothing.
    """
    return 1 - curve.needed / min(by_chance.needed, by_chance.labels[-1])


def summary(curves: Curves) -> dict[str, dict[str, Any]]:
    """By strategy: labels to the target, what they save with its range, and how many curves never get there."""
    rows = {}
    for name, own in curves.items():
        savings = sorted(saved(one, by_chance) for one, by_chance in zip(own, curves["random"], strict=True))
        needed = sorted(one.needed for one in own)
        rows[name] = {
            "labels": _middle(needed),
            "saved": 0.0 if name == "random" else _middle(savings),
            "saved_low": savings[0],
            "saved_high": savings[-1],
            "censored": sum(math.isinf(one) for one in needed),
            "mean_accuracy": float(np.mean([np.mean(one.accuracies) for one in own])),
        }
    return rows


def _middle(ordered: Sequence[float]) -> float:
    """The median, of which a pair with an infinite half is infinite."""
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def forecasts(curves: Curves) -> dict[str, Any]:
    """The stopping rule at a quarter of the pool: what it expected of the rest, and what the rest then brought.

    It stops on its upper end alone, so what counts is how often the gain is not above that, and how often the advice
    (is the rest worth a point of accuracy?) is right.
    """
    rows = []
    for curve in curves[DEFAULT]:
        seen = max(POINTS, int(np.searchsorted(curve.labels, JUDGED_AT * curve.pool)) + 1)
        labels, accuracies = np.array(curve.labels[:seen], float), np.array(curve.accuracies[:seen])
        rng = np.random.default_rng(curve.seed)
        found = outlook(labels, accuracies, curve.held_out, curve.pool - curve.labels[seen - 1], rng)
        gained = curve.full - found.accuracy
        advice = found.enough(POINT) == (gained < POINT)
        rows.append((gained <= found.high, advice, abs(found.gain - gained), f"{found}; it was {100 * gained:.1f}"))
    bounded, right, errors, words = zip(*rows, strict=True)
    return {
        "not_above_upper_end": float(np.mean(bounded)),
        "advice_right": float(np.mean(right)),
        "mean_error": float(np.mean(errors)),
        "example": words[0],
    }


def show(name: str, rows: dict[str, dict[str, Any]], seeds: int) -> None:
    table = Table(title=f"{name}: labels to {TARGET:.0%} of the accuracy of all labels", title_justify="left")
    for column in ("", "labels, median", "saved, median", "range over seeds", "never", "mean accuracy"):
        table.add_column(column, justify="left" if not column else "right")
    for strategy, row in rows.items():
        low, middle, high = (_percent(row[key]) for key in ("saved_low", "saved", "saved_high"))
        never = f"{row['censored']} of {seeds}" if row["censored"] else ""
        labels = f"{row['labels']:,.0f}" if math.isfinite(row["labels"]) else "never"
        spread = "" if strategy == "random" else f"{low} to {high}"
        table.add_row(strategy, labels, middle, spread, never, f"{row['mean_accuracy']:.3f}")
    Console(width=120).print(table)


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "none"


def draw(found: Iterable[tuple[str, Curves]], path: Path) -> None:
    """One panel a data set: mean accuracy by labels with its 95 % band, the target, and how many never get there."""
    panels = list(found)
    figure = Figure(figsize=(6.2 * min(len(panels), 2), 4.4 * math.ceil(len(panels) / 2)), layout="constrained")
    grid = figure.subplots(math.ceil(len(panels) / 2), min(len(panels), 2), squeeze=False)
    for axes, (name, curves) in zip(grid.flat, panels, strict=False):
        _panel(axes, name, curves)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, name: str, curves: Curves) -> None:
    for strategy, own in curves.items():
        shortest = min(len(one.labels) for one in own)  # splits by group differ by a few rows
        accuracies_SK = np.array([one.accuracies[:shortest] for one in own])
        labels, middle = own[0].labels[:shortest], accuracies_SK.mean(0)
        half = stats.sem(accuracies_SK, axis=0) * stats.t.ppf(0.975, len(own) - 1)
        never = sum(math.isinf(one.needed) for one in own)
        legend = strategy + (f" ({never} of {len(own)} never)" if never else "")
        named = strategy in COLOURS
        colour = COLOURS.get(strategy, "lightgrey")
        line = axes.plot(labels, middle, color=colour, label=legend, marker="x" if never else None, markevery=[-1])[0]
        line.set(linewidth=2.2 if strategy == DEFAULT else 1.2, zorder=3 if named else 1)
        if named:
            axes.fill_between(labels, middle - half, middle + half, color=colour, alpha=0.15, linewidth=0)
    full = float(np.mean([one.full for one in curves["random"]]))
    axes.axhline(TARGET * full, color="tab:red", linewidth=0.8, linestyle="--", label=f"{TARGET:.0%} of all labels'")
    axes.set(title=name, xlabel="labels", ylabel="accuracy", xscale="log", ylim=(0.4 * full, 1.03 * full))
    axes.legend(fontsize=7, loc="lower right")


def main(
    data: Annotated[Path | None, typer.Option(help="your own .npz with arrays x (rows x features) and y")] = None,
    out: Annotated[Path, typer.Option(help="where the figures go, as JSON")] = OUT,
    plot: Annotated[Path, typer.Option(help="where the curves go, as PNG")] = PLOT,
) -> None:
    """Compare all strategies, print tables, and write the figures and the curves' plot."""
    began = time.monotonic()
    found: dict[str, Any] = {}
    drawn = []
    for one in built_in() if data is None else [from_file(data)]:
        curves = compare(one)
        rows = summary(curves)
        show(one.name, rows, SEEDS)
        stopping = forecasts(curves)
        told = "gain not above its upper end {not_above_upper_end:.0%}, advice right {advice_right:.0%}, e.g. {example}"
        print(f"stopping rule: {told.format(**stopping)}\n")
        found[one.name] = {"rows": len(one.x_ND), "strategies": rows, "stopping": stopping}
        drawn.append((one.name, curves))
    draw(drawn, plot)
    setting = {"target": TARGET, "seeds": SEEDS, "first_batch": BATCH, "budget_share": BUDGET_SHARE}
    # JSON knows no infinity: a median that is never reached, or a saving of none, is null.
    finite = json.loads(json.dumps({"data": found, "setting": setting}), parse_constant=lambda _: None)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(finite, indent=1, sort_keys=True) + "\n")
    print(f"{out} and {plot} written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    run(main)
