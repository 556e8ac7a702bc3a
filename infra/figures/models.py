"""Rows of the models: what they write and paint, and how fast their engines are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infra.figures.row import Document, Row, bench, listed, other_work, percent, times

WRITERS = {
    "before": "base model",
    "after": "fine-tuned",
    "echo": "the phrase unchanged",
    "nearest_answer": "training's answer to the nearest phrase",
}
SETS = ("flat-color-icons", "streamline-emojis", "fxemoji")  # strangers' pictures
RECIPES = {"plain": "without what keeps the base's things", "kept": "as shipped"}
PROMPTS = {
    "phrase": "the phrase unchanged",
    "nearest_answer": "training's nearest answer",
    "base_model": "base model",
    "fine_tuned_model": "fine-tuned",
    "reference": "the wanted prompt",
}


def text_loss(d: Document) -> str:
    """Held-out loss, beside that of who knows only how often each token is written."""
    alone = f"how often each token is written, alone: {d['unigram']['loss']:.2f}"
    return f"{d['before']['loss']:.2f} → {d['after']['loss']:.2f} nats a token ({d['pairs']} pairs); {alone}"


def text_answers(d: Document) -> str:
    """How like the wanted prompt the answers are, and what the fine-tuned model gains."""
    scores = listed(WRITERS, lambda key: f"{d[key]['chrf']:.2f} ({percent(d[key]['exact'])})")
    gain = f"{d['gain']['chrf']:+.2f}, at least {d['gain']['chrf_lower']:+.2f}"
    return f"{scores}; of {d['samples']} phrases; gain over the best of the others {gain} (one-sided 95 % over phrases)"


def text_naming(d: Document) -> str:
    """How often an answer names the picture: all phrases, and those without the name; empty without any concept."""
    if "samples_with_the_name" not in d:
        return ""

    def shares(key: str) -> str:
        apart = d[key].get("phrases_without_the_name")
        return percent(d[key]["naming"]) + (f" ({percent(apart['naming'])})" if apart else "")

    counted = d.get("samples_with_a_concept", d["samples"])
    without = counted - d["samples_with_the_name"]
    return f"{listed(WRITERS, shares)}; of {counted} phrases (of {without} that lack the name)"


def prompts(d: Document) -> str:
    """What the image line paints of each prompt, by the judge; empty where the text line writes no prompts."""
    if not d["phrases"]:
        return ""
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


def adapter(d: Document) -> str:
    """The text engine with a segment's adapter beside it without one, by number of callers."""
    levels = {key: key.removeprefix("callers_") for key in d if key.startswith("callers_")}

    def level(key: str) -> str:
        row = d[key]
        speeds = f"{row['without']:.0f} tokens/s without, {row['with']:.0f} with"
        return f"{'callers' if levels[key] != '1' else 'caller'}: {speeds}, {times(row['ratio'], 2)}"

    row = d[next(iter(levels))]
    tokens = f"{row['read']:.0f} tokens read and {row['written']:.0f} written for a phrase"
    return f"{listed(levels, level)}; {tokens}; {d['rounds']} paired rounds, {other_work(d)}"


def speed(level: str, unit: str, key: str, form: str) -> Callable[[Document], str]:
    """An engine's speed beside PyTorch's at a level of load."""

    def figure(d: Document) -> str:
        row = d[level]
        rates = ", ".join(f"{name} {value:{form}}" for name, value in row[key].items())
        eager, best = row["speedup"]["openvino"], row["speedup_over_best_pytorch"]["openvino"]
        ratios = f"OpenVINO {times(eager)} fp32 eager, {times(best)} {row['best_pytorch']}"
        return f"{rates} {unit}; {ratios}; {row['rounds']} paired rounds, {other_work(d)}"

    return figure


EVALUATE, SPEED = "dvc repro evaluate_text evaluate_image", bench("engines")
BASE = "python -m infra.base.evaluate"


def strangers(name: str) -> Callable[[Document], str]:
    """A set's figures with the parameters as shipped, and without what keeps the things that the base knows."""

    def recipe(row: dict[str, Any]) -> str:
        known, kid, kept = row["known_to_base"], row["kid"], row["base_captions_named"]
        named = f"{percent(known['after'])} (real ones {percent(known['real'])})" if known["known"] else "none"
        return (
            f"strength {row['training']['strength']:g}, named of the {known['known']} captions that the base can paint "
            f"{named}, of all those trained on "
            f"{percent(row['named']['after']['seen'])} ({percent(row['named']['judge_on_real_pictures']['seen'])}); "
            f"KID {kid['before']['kid']:.3f} → {kid['after']['kid']:.3f} (error of the difference "
            f"{row['kid_over_base']['standard_error']:.3f}); the base's own captions {percent(kept['before'])} → "
            f"{percent(kept['after'])}; {'passed' if row['passed'] else 'refused'}"
        )

    def figure(d: Document) -> str:
        row = d.get(name, {})
        said = [f"{words}: {recipe(row[key])}" for key, words in RECIPES.items() if key in row]
        return "; ".join(said)

    return figure


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
    Row("image/base.json", "base: the same, concepts that no artist drew for it", base("unseen"), BASE),
    Row("image/base.json", "base: KID to held-out drawings, asked in their style", base_kid, BASE),
    Row(
        "image/evaluate.json",
        "image: KID to held-out drawings of the user's style (the judge's features)",
        gained,
        EVALUATE,
    ),
    Row("image/evaluate.json", "image: named by the judge, captions trained on / held out", named, EVALUATE),
    *(
        Row("strangers.json", f"image: a stranger's pictures, {name}", strangers(name), bench("strangers"))
        for name in SETS
    ),
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
        "text/adapter.json",
        "text engine with real phrases, with an adapter of a segment and without",
        adapter,
        bench("adapter"),
    ),
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
]
