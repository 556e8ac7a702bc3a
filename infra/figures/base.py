"""Rows of the page about the image line's base: first hour, steps, guidance, search of sampling parameters."""

from __future__ import annotations

from collections.abc import Sequence

from infra.figures import models
from infra.figures.row import Document, Row, listed, percent


def steps(d: Document) -> str:
    """By solver and steps: agreement with many Euler steps, and milliseconds of a picture."""
    solvers = {row["solver"]: f"{row['solver']}:" for row in d["rows"]}

    def solver(name: str) -> str:
        return ", ".join(
            f"{row['steps']} steps {float(row['agreement']):.1f} dB {1000 * float(row['seconds']):.0f} ms"
            for row in d["rows"]
            if row["solver"] == name
        )

    return listed(solvers, solver)


def recognised(d: Document) -> str:
    """By solver: the least and the most that are named, over all steps."""
    solvers = dict.fromkeys(row["solver"] for row in d["rows"])

    def solver(name: str) -> str:
        shares = [float(row["named"]) for row in d["rows"] if row["solver"] == name]
        return f"{percent(min(shares))} to {percent(max(shares))}"

    return listed(list(solvers), solver)


def guidance(d: Document) -> str:
    """By scale: what the judge says, and how far pictures of a caption are apart."""
    return "; ".join(
        f"{row['guidance']}: alignment {float(row['alignment']):.3f}, named {percent(float(row['named']))}, "
        f"diversity {float(row['diversity']):.2f}"
        for row in d["rows"]
    )


def settings(d: Document) -> str:
    """What the search compared."""
    names = {"temperature": "temperature", "top_p": "top-p", "guidance": "guidance", "steps": "steps"}

    def values(key: str) -> str:
        return listed(names, lambda name: f"{d[key][name]:.3g}").replace(";", ",")

    return f"default of that time: {values('default')}; winner of {len(d['trials'])} trials: {values('winner')}"


def gain(d: Document) -> str:
    """Alignment of the default and of the winner, on the search's own phrases and on others."""
    sides = {"validation": "phrases of the search", "test": "phrases of the test side"}

    def side(key: str) -> str:
        row = d[key]
        low, high = row["interval"]
        change = f"{row['difference']:+.3f} ({low:.3f} to {high:.3f})"
        return f"({row['phrases']}) {row['default']:.3f} → {row['winner']:.3f}: {change}"

    return f"{listed(sides, side)}; 95 %, bootstrap over phrases"


SAMPLING, TUNE = "python -m components.evaluation.sampling", "python -m components.tuning.sampling"
FIRST_HOUR = f"{models.BASE} --model DIR --out metrics/image/base_first_hour.json"
ROWS: Sequence[Row] = [
    Row("image/base_first_hour.json", "first hour: named, captions trained on", models.base("seen"), FIRST_HOUR),
    Row("image/base_first_hour.json", "first hour: held-out combinations", models.base("combinations"), FIRST_HOUR),
    Row("image/steps.csv", "steps: agreement with 100 Euler steps, time of a picture in a batch", steps, SAMPLING),
    Row("image/steps.csv", "steps: named by the judge, least and most", recognised, SAMPLING),
    Row("image/guidance.csv", "guidance", guidance, SAMPLING),
    Row("sampling/search.json", "search of sampling parameters", settings, TUNE),
    Row("sampling/search.json", "the same: alignment, default → winner", gain, TUNE),
]
