"""Rows of README: the few figures that say most, in short. docs/benchmarks.md has each in full."""

from __future__ import annotations

from collections.abc import Callable

from infra.figures import online
from infra.figures.models import BASE, SPEED
from infra.figures.row import Document, Row, bench, percent, times


def written(d: Document) -> str:
    """How like the wanted prompt the answers are, before and after fine-tuning."""
    before, after, echo = (f"{d[key]['chrf']:.2f}" for key in ("before", "after", "echo"))
    return f"{before} → {after}; the phrase unchanged {echo}"


def gained(d: Document) -> str:
    """KID to the held-out drawings before and after fine-tuning, each with its standard error."""
    before, after = (f"{d[key]['kid']:.3f} ± {d[key]['kid_standard_error']:.3f}" for key in ("before", "after"))
    return f"{before} → {after}"


def named(d: Document) -> str:
    """How often the judge names the base's pictures and real ones, of concepts that are seen and unseen."""
    base, real = (
        " / ".join(percent(d[key][group]["named"]) for group in ("seen", "unseen")) for key in ("no_style", "real")
    )
    return f"{base}; real drawings {real}"


def speed(level: str, unit: str, key: str, form: str) -> Callable[[Document], str]:
    """OpenVINO's speed at a level of load, beside the fastest way to run PyTorch."""

    def figure(d: Document) -> str:
        row = d[level]
        ratio = times(row["speedup_over_best_pytorch"]["openvino"])
        return f"{row[key]['openvino']:{form}} {unit}; {ratio} PyTorch's best"

    return figure


def false_winners(d: Document) -> str:
    """Share of A/A replays with a winner at any look: by what runs, and by a test that is made for one look."""
    shares = d["false_positives"]
    runs, ordinary = (100 * shares[key] for key in ("mixture of bets (what runs)", "ordinary test, peeking"))
    return f"{runs:.1f} %; an ordinary test {ordinary:.1f} %"


def saved(d: Document) -> str:
    """Labels saved against random choice on the data set that gains least and on the one that gains most.

    An empty figure where a data set has no saving that can be told.
    """
    shares = [row["strategies"]["mixed"]["saved"] for row in d["data"].values()]
    if None in shares:
        return ""
    return f"{percent(min(shares))} to {percent(max(shares))} on {len(shares)} data sets"


ROWS = [
    Row("text/evaluate.json", "text: likeness to the wanted prompt (chrF)", written, "dvc repro evaluate_text"),
    Row("image/evaluate.json", "image: distance to your drawings (KID)", gained, "dvc repro evaluate_image"),
    Row("image/base.json", "base: judge names seen / new concepts", named, BASE),
    Row(
        "text/speed.json",
        "text engine, 8 streams",
        speed("streams_8", "tokens/s", "tokens_per_second", ".0f"),
        SPEED,
    ),
    Row("image/speed.json", "image engine, each of 32 pictures", speed("batch_32", "ms", "ms_per_image", ".1f"), SPEED),
    Row("online/statistics.json", "experiments: false winners (5 % allowed)", false_winners, bench("online")),
    Row("annotation/active.json", "active learning: labels saved", saved, bench("annotation")),
    Row("online/idle.json", "idle stack, without model engines", online.idle, bench("idle")),
]
