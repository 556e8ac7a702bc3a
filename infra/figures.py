"""Write README's table of figures from `metrics/`: `make figures`.

Each figure is read from the file that its row's command wrote; a row whose file is not there is left out. A test
compares the table with the files, so that neither changes without the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- written by `make figures` from metrics/ -->\n", "<!-- end of the figures -->\n"
HEAD = "| what | figure | command |\n|---|---|---|\n"
WRITERS = {
    "before": "base model",
    "after": "fine-tuned",
    "echo": "the phrase unchanged",
    "nearest_answer": "training's answer to the nearest phrase",
}
PROMPTS = {
    "phrase": "the phrase unchanged",
    "nearest_answer": "training's nearest answer",
    "base_model": "base model",
    "fine_tuned_model": "fine-tuned",
    "reference": "the wanted prompt",
}

Document = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A figure, the file under `metrics/` that it is read from, and the command that writes that file."""

    source: str
    what: str
    figure: Callable[[Document], str]
    command: str


def percent(share: float) -> str:
    """As a whole number of hundredths."""
    return f"{100 * share:.0f} %"


def listed(names: dict[str, str], figure: Callable[[str], str]) -> str:
    """The figure of each of several things, with its name."""
    return "; ".join(f"{name} {figure(key)}" for key, name in names.items())


def text_loss(d: Document) -> str:
    """Held-out loss, beside that of who knows only how often each token is written."""
    alone = f"how often each token is written, alone: {d['unigram']['loss']:.2f}"
    return f"{d['before']['loss']:.2f} → {d['after']['loss']:.2f} nats a token ({d['pairs']} pairs); {alone}"


def text_answers(d: Document) -> str:
    """How like the wanted prompt the answers are, and what the fine-tuned model gains."""
    scores = listed(WRITERS, lambda key: f"{d[key]['chrf']:.2f} ({percent(d[key]['exact'])})")
    gain = f"{d['gain']['chrf']:+.2f}, at least {d['gain']['chrf_lower']:+.2f}"
    return (
        f"{scores}; of {d['samples']} phrases; gain over the best without a model {gain} (one-sided 95 % over phrases)"
    )


def text_naming(d: Document) -> str:
    """How often an answer names the picture: all phrases, and those without the name."""

    def shares(key: str) -> str:
        apart = d[key].get("phrases_without_the_name")
        return percent(d[key]["naming"]) + (f" ({percent(apart['naming'])})" if apart else "")

    without = d["samples"] - d["samples_with_the_name"]
    return f"{listed(WRITERS, shares)}; of {d['samples']} phrases (of {without} that lack the name)"


def prompts(d: Document) -> str:
    """What the image line paints of each prompt, by the judge."""
    scores = listed(PROMPTS, lambda key: f"{d[key]['alignment']:.3f} ({percent(d[key]['top1'])})")
    return f"{scores}; of {d['phrases']} phrases"


def gained(d: Document) -> str:
    """KID to the held-out drawings, beside training's own pictures."""
    rows = {
        "before": "before",
        "after": "after",
        "nearest_training_picture": "training's picture of the nearest caption",
    }
    error = "kid_standard_error"
    return (
        listed(rows, lambda key: f"{d[key]['kid']:.3f} ± {d[key][error]:.3f}") + f" (standard error, N {d['pictures']})"
    )


def named(d: Document) -> str:
    """How often the judge names a picture rightly."""
    rows = {"after": "adapted", "judge_on_real_pictures": "real drawings", "before": "base"}
    return (
        listed(rows, lambda key: f"{percent(d[key]['seen_captions']['top1'])} / {percent(d[key]['top1'])}")
        + f"; real drawings of other captions {percent(d['shuffled_real_pictures']['top1'])}"
    )


def forgotten(d: Document) -> str:
    """Pictures in the base's own styles that the judge names."""
    return f"{percent(d['before']['top1'])} → {percent(d['after']['top1'])} of {d['after']['pictures']}"


def base(group: str) -> Callable[[Document], str]:
    """How often the judge names the base's pictures of a group of captions, beside the real ones."""

    def share(row: Document) -> str:
        interval = f" ({percent(row['low'])} to {percent(row['high'])})" if "low" in row else ""
        return percent(row["named"]) + interval

    def figure(d: Document) -> str:
        asked = {"no_style": "no style asked", "openmoji_style": "asked in OpenMoji's style", "real": "real drawings"}
        return listed(asked, lambda key: share(d[key][group])) + f"; {d['no_style'][group]['pictures']} captions (95 %)"

    return figure


def base_kid(d: Document) -> str:
    """KID of the base's pictures in the style of those held out."""
    row = d["openmoji_style"]["kid"]
    return f"{row['kid']:.3f} ({row['low']:.3f} to {row['high']:.3f}, 95 %), N {row['pictures']}"


def speed(level: str, unit: str, key: str, form: str) -> Callable[[Document], str]:
    """An engine's speed beside PyTorch's at a level of load."""

    def times(ratio: Document) -> str:
        return f"{ratio['ratio']:.1f} × ({ratio['low']:.1f} to {ratio['high']:.1f})"

    def figure(d: Document) -> str:
        row, machine = d[level], d["machine"]
        rates = ", ".join(f"{name} {value:{form}}" for name, value in row[key].items())
        eager, best = row["speedup"]["openvino"], row["speedup_over_best_pytorch"]["openvino"]
        load = f"{machine['cores_busy_with_other_work']:.2f} of {machine['cores']} cores busy with other work"
        ratios = f"OpenVINO {times(eager)} fp32 eager, {times(best)} {row['best_pytorch']}"
        return f"{rates} {unit}; {ratios}; {row['rounds']} paired rounds, {load}"

    return figure


def false_winners(d: Document) -> str:
    """Shares of A/A replays with a winner at any look."""
    return "; ".join(f"{name} {100 * share:.1f} %" for name, share in d["false_positives"].items())


def lift(d: Document) -> str:
    """Users to a decision, at equal power."""
    row = d["lift_15"]["mixture of bets (what runs)"]
    users = row["horizon of power 0.8"]
    once = f"{row['fixed horizon']:,}: {users / row['fixed horizon']:.2f} ×"
    return f"{users:,.0f} for 80 % of replays; one look at a horizon fixed for that power {once}"


def idle(d: Document) -> str:
    """What the running stack takes without the model engines, of all cores."""
    row = d["housekeeping"]
    share, seconds = f"{100 * row['cpu'] / d['cores']:.1f} % of {d['cores']} cores", f"{d['seconds']:.0f} s"
    return f"{share}, {row['memory'] / 1e9:.2f} GB, {row['processes']:.0f} processes, over {seconds}"


def active(d: Document) -> str:
    """Labels saved, of each data set."""
    sets = {name: row["strategies"]["mixed"] for name, row in d["data"].items()}
    saved = "; ".join(
        f"{name} {percent(row['saved'])} ({percent(row['saved_low'])} to {percent(row['saved_high'])})"
        for name, row in sets.items()
    )
    return f"{saved}; median of {d['setting']['seeds']} paired seeds and their range"


EVALUATE, SPEED = "dvc repro evaluate_text evaluate_image", "make bench-engines"
BASE = "python -m components.evaluation.base"
ROWS = [
    Row("text/evaluate.json", "text: held-out loss, base → fine-tuned", text_loss, EVALUATE),
    Row("text/evaluate.json", "text: chrF with the wanted prompt (exactly that prompt)", text_answers, EVALUATE),
    Row("text/evaluate.json", "text: answer names the picture (MiniLM cosine)", text_naming, EVALUATE),
    Row(
        "image/prompts.json",
        "text → picture: alignment with the name, by the judge (named)",
        prompts,
        "dvc repro evaluate_prompts",
    ),
    Row("image/base.json", "base: named by the judge, captions trained on", base("seen"), BASE),
    Row("image/base.json", "base: the same, concepts held out in OpenMoji's style", base("combinations"), BASE),
    Row("image/base.json", "base: KID to held-out drawings, asked in their style", base_kid, BASE),
    Row(
        "image/evaluate.json",
        "image: KID to held-out drawings of the user's style (the judge's features)",
        gained,
        EVALUATE,
    ),
    Row("image/evaluate.json", "image: named by the judge, captions trained on / held out", named, EVALUATE),
    Row(
        "image/forgetting.json",
        "image: the base's styles, named before → after adapting",
        forgotten,
        "dvc repro evaluate_forgetting",
    ),
    Row(
        "text/speed.json", "text engine, one stream", speed("streams_1", "tokens/s", "tokens_per_second", ".0f"), SPEED
    ),
    Row("text/speed.json", "text engine, 8 streams", speed("streams_8", "tokens/s", "tokens_per_second", ".0f"), SPEED),
    Row(
        "image/speed.json",
        "image engines, forward pass of one picture",
        speed("batch_1", "ms", "ms_per_image", ".1f"),
        SPEED,
    ),
    Row(
        "image/speed.json",
        "image engines, of each of 32 pictures",
        speed("batch_32", "ms", "ms_per_image", ".1f"),
        SPEED,
    ),
    Row(
        "online/statistics.json",
        "experiments: false winners among equal variants whose users come once, at any look (5 % allowed)",
        false_winners,
        "make bench-online",
    ),
    Row(
        "online/statistics.json",
        "experiments: users until a lift from 30 % to 34.5 % is decided",
        lift,
        "make bench-online",
    ),
    Row(
        "online/idle.json", "the running stack while nobody uses it, without the model engines", idle, "make bench-idle"
    ),
    Row(
        "annotation/active.json",
        "active learning: labels saved against random choice at 95 % of full accuracy",
        active,
        "make bench-annotation",
    ),
]


def table(metrics: Path) -> str:
    """README's table of what the files under `metrics` hold."""
    lines = []
    for row in ROWS:
        path = metrics / row.source
        if path.exists():
            figure = row.figure(json.loads(path.read_text(encoding="utf-8")))
            lines.append(f"| {row.what} | {figure} | `{row.command}` |\n")
    return HEAD + "".join(lines)


def written(readme: str, metrics: Path) -> str:
    """The text of README with the table of now between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(metrics)}\n{END}{after}"


def main() -> None:
    """Write the table."""
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text(encoding="utf-8"), ROOT / "metrics"), encoding="utf-8")


if __name__ == "__main__":
    main()
