"""Write README's table of figures from `metrics/`: `python infra/figures.py`, or `make figures`.

Every figure is read from the file that its row's command wrote; a row whose file is not there is left out. A test
compares the table with the files, so that neither changes without the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- figures: written by `make figures` -->\n", "<!-- end of figures -->\n"
HEAD = "| what | figure | command |\n|---|---|---|\n"

Document = dict[str, Any]
Row = tuple[str, str, Callable[[Document], str], str]  # file under metrics/, what, figure, command


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def times(ratio: Document) -> str:
    """A ratio of paired rounds with its interval."""
    return f"{ratio['ratio']:.2f} × ({ratio['low']:.2f} to {ratio['high']:.2f})"


def busy(document: Document) -> str:
    return f"other work kept {document['machine']['cores_busy_with_other_work']:.2f} of {document['machine']['cores']} cores busy"


def text_loss(d: Document) -> str:
    return (
        f"{d['before']['loss']:.2f} → {d['after']['loss']:.2f} ({d['pairs']} pairs); "
        f"knowing only how often each token is written: {d['unigram']['loss']:.2f}"
    )


def text_answers(d: Document) -> str:
    names = {
        "before": "base",
        "after": "fine-tuned",
        "echo": "the phrase itself",
        "nearest_answer": "nearest training answer",
    }
    shares = "; ".join(f"{name} {d[key]['chrf']:.2f}, {percent(d[key]['exact'])}" for key, name in names.items())
    return f"{shares}, of {d['samples']} phrases; gained over the best of the last two {d['gain']['chrf']:+.2f} (at least {d['gain']['chrf_lower']:+.2f} at 95 %)"


def text_naming(d: Document) -> str:
    names = {
        "before": "base",
        "after": "fine-tuned",
        "echo": "the phrase itself",
        "nearest_answer": "nearest training answer",
    }
    return "; ".join(
        f"{name} {percent(d[key]['naming'])}"
        + (
            f" ({percent(d[key]['phrases_without_the_name']['naming'])} where it lacks the name)"
            if "phrases_without_the_name" in d[key]
            else ""
        )
        for key, name in names.items()
    )


def text_speed(streams: str) -> Callable[[Document], str]:
    def figure(d: Document) -> str:
        row = d[streams]
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in row["tokens_per_second"].items())
        ratio = f"{times(row['speedup']['openvino'])} fp32 eager, {times(row['speedup_over_best_pytorch']['openvino'])} {row['best_pytorch']}"
        return f"{rates} tokens/s; {ratio}; {row['rounds']} paired rounds, {busy(d)}"

    return figure


def image_speed(batch: str) -> Callable[[Document], str]:
    def figure(d: Document) -> str:
        row = d[batch]
        took = ", ".join(f"{name} {ms:.1f}" for name, ms in row["ms_per_image"].items())
        ratio = f"{times(row['speedup']['openvino'])} fp32 eager, {times(row['speedup_over_best_pytorch']['openvino'])} {row['best_pytorch']}"
        return f"{took} ms; {ratio}; {row['rounds']} paired rounds, {busy(d)}"

    return figure


def lift(name: str) -> Callable[[Document], str]:
    def figure(d: Document) -> str:
        row = d["lift_15"][name]
        ratio = row["horizon of power 0.8"] / row["fixed horizon"]
        return (
            f"by {row['horizon of power 0.8']:.0f} users 80 % have decided (half by {row['median']:.0f}); one look at a fixed "
            f"horizon of the same power takes {row['fixed horizon']}: {ratio:.2f} ×"
        )

    return figure
