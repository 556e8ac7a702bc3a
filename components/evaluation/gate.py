"""Stage `gate`: may this model go on? Compares measured values with the thresholds of `params.yaml`, line by line.

The verdict is a file and the stage never fails over a refusal, so that a refused model keeps its evidence; it is the
next stage, `package`, that refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from components import config
from components.artifact import canonical, write_text
from components.config import GateImage, GateText, Line
from components.paths import METRICS, SHEETS
from components.stage import StageError, run

ONE_SIDED_95 = 1.645  # standard errors
# The figures of a brought pipeline by what measures them: those of which less is better, and those of which more is.
LESS = {"loss": "", "kid": "encoder", "fid": "encoder", "inception_kid": "inception", "inception_fid": "inception"}
MORE = {
    "alignment": "encoder",
    "alignment_probability": "encoder (of SigLIP)",
    "aesthetics": "aesthetics",
    "inception_score": "inception",
    "nearest_training_rmse": "",
}
BESIDE = {
    "before": "the base",
    "nearest_training_picture": "training's picture of the nearest caption",
    "training_pictures": "training's pictures",
    "real_pictures": "real pictures",
}
OTHERS = {  # what the fine-tuned text model has to be better than, in words
    "before": "the base model",
    "echo": "the phrase repeated",
    "nearest_answer": "training's answer to the nearest phrase",
    "majority_answer": "training's most frequent answer",
    "unigram": "how often each token is written",
}
METRICS_IN_WORDS = {
    "exact": "exactly the wanted answer",
    "exact_normalised": "the wanted answer but for case and punctuation",
    "token_f1": "words in common with the wanted answer",
    "rouge_l": "words in common in the same order",
    "chrf": "characters in common with the wanted answer",
}
ADVICE = {  # what a refusal means, and what to try
    "named_shortfall": "the style was learnt and the things were lost: name the thing first in each caption, raise "
    "train.image.rehearsed, or lower strength, learning_rate or max_steps there",
    "alignment_over_base": "the pictures show less of their captions than the base's, which paints few of your "
    "things: name the thing first in each caption, raise train.image.rehearsed, or lower strength, learning_rate or "
    "max_steps there",
    "kid_over_base": "the pictures are less like yours than those of the base, which has seen none of them: raise "
    "train.image.strength, max_steps or lora_rank, or add pictures",
}


class Relation(StrEnum):
    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True)
class Check:
    """One comparison and its outcome; `relation` is how `value` must stand to `threshold`, `note` what it rests on."""

    name: str
    value: float
    relation: Relation
    threshold: float
    note: str = field(default="", kw_only=True)

    @property
    def passed(self) -> bool:
        return self.value <= self.threshold if self.relation is Relation.AT_MOST else self.value >= self.threshold

    def row(self) -> dict[str, Any]:
        row = {name: value for name, value in asdict(self).items() if name != "note" or value}
        return {**row, "passed": self.passed}


def text_checks(evaluation: dict[str, Any], gate: GateText) -> list[Check]:
    """Fine-tuning must beat the base model's held-out loss, and the answers of the base and of what needs no model.

    `chrf_gain_lower` is the lower end of the gain's one-sided 95 % interval over phrases, `exact_gain` an estimate. Of
    what `gate.at_least` names the lower end counts where there is one.
    """
    losses = {name: evaluation[name]["loss"] for name in ("before", "unigram")}
    least = min(losses, key=lambda name: losses[name])
    gain, loss = evaluation["gain"], evaluation["after"]["loss"]
    return [
        Check(
            "loss_ratio",
            loss / losses[least],
            Relation.AT_MOST,
            gate.max_loss_ratio,
            note=f"held-out loss {loss:.2f}, {OTHERS[least]} {losses[least]:.2f}",
        ),
        Check(
            "chrf_gain_lower",
            gain["chrf_lower"],
            Relation.AT_LEAST,
            gate.min_chrf_gain,
            note=beside(evaluation, "chrf"),
        ),
        Check("exact_gain", gain["exact"], Relation.AT_LEAST, gate.min_exact_gain, note=beside(evaluation, "exact")),
        *least_checks(evaluation, gate.at_least),
    ]


def beside(evaluation: dict[str, Any], metric: str) -> str:
    """A metric of the fine-tuned model, beside that of the best of the others."""
    over, after = evaluation["gain"]["over"][metric], evaluation["after"][metric]
    return (
        f"{METRICS_IN_WORDS.get(metric, f'your metric {metric}')}: {after:.3g} over {evaluation['samples']} answers, "
        f"{OTHERS[over]} {evaluation[over][metric]:.3g}"
    )


def least_checks(evaluation: dict[str, Any], bounds: Mapping[str, float]) -> list[Check]:
    """A check of each figure that is bounded; raises `StageError` where the evaluation has no such figure."""
    known = figures(evaluation)
    if unknown := sorted(bounds.keys() - known):
        hint = "; win_rate comes with evaluate.text.judge" if "win_rate" in unknown else ""
        raise StageError(
            f"gate.text.at_least: the evaluation has no {', '.join(unknown)}; it has {', '.join(sorted(known))}{hint}"
        )
    return [
        Check(found.name, found.value, Relation.AT_LEAST, bound, note=found.note)
        for found, bound in ((known[name], bound) for name, bound in bounds.items())
    ]


class Figure(NamedTuple):
    """A figure as a check shows it: `name` says whether `value` is the lower end of an interval."""

    name: str
    value: float
    note: str


def figures(evaluation: dict[str, Any]) -> dict[str, Figure]:
    """What can be bounded: each metric of the fine-tuned model, its gain, and how often a judge prefers the answer."""
    after, gain = evaluation["after"], evaluation["gain"]
    found: dict[str, Figure] = {}
    for metric, lower in after["lower"].items():
        note = beside(evaluation, metric)
        found[metric] = Figure(f"{metric}_lower", lower, note)
        found[f"{metric}_gain"] = Figure(f"{metric}_gain_lower", gain[f"{metric}_lower"], note)
    if "naming" in after:
        count = evaluation["samples_with_a_concept"]
        found["naming"] = Figure("naming", after["naming"], f"of {count} answers, an estimate")
    if judge := evaluation.get("judge"):
        note = f"{judge['wins']} won and {judge['losses']} lost of {judge['pairs']} pairs, by {judge['model']}"
        found["win_rate"] = Figure("win_rate_lower", judge["win_rate_lower"], note)
    return found


def image_checks(evaluation: dict[str, Any], gate: GateImage) -> list[Check]:
    """The things that the base can paint must still be seen in the pictures, and these be as near to the real ones.

    Both are relative, since the judge sees little in many a style: `named_shortfall` is how much less often it names
    generated pictures than the user's own, `kid_over_base` how much farther from these they are than the base's. Where
    the base can paint too few of the things, pictures must show what their captions say as well as the base's do.
    """
    if "judge_on_real_pictures" not in evaluation:  # of a brought pipeline, of which the judge knows nothing
        return pipeline_checks(evaluation, gate.pipeline)
    known, change = evaluation["known_to_base"], evaluation["kid_over_base"]
    note = f"of {known['captions']} captions the base paints {known['known']} so that they are recognised"
    if "real" in known:
        shortfall = known["real"] - known["after"]
        note += f"; of these are recognised {known['after']:.0%}, of your own pictures {known['real']:.0%}"
        things = Check("named_shortfall", shortfall, Relation.AT_MOST, gate.max_named_shortfall, note=note)
    else:
        gain = evaluation["after"]["alignment"] - evaluation["before"]["alignment"]
        note += ": too few"
        things = Check("alignment_over_base", gain, Relation.AT_LEAST, -gate.max_alignment_loss, note=note)
    kids = f"KID {evaluation['after']['kid']:.3f}, the base's {evaluation['before']['kid']:.3f}"
    most = gate.max_kid_errors_over_base * change["standard_error"]
    return [
        things,
        Check("kid_over_base", change["value"], Relation.AT_MOST, most, note=kids),
    ]


def pipeline_checks(evaluation: dict[str, Any], bounds: dict[str, float]) -> list[Check]:
    """Those that `gate.image.pipeline` names; raises `StageError` for a name that is none, or was not measured."""
    known = _bounded()
    if unknown := sorted(bounds.keys() - known):
        raise StageError(
            f"gate.image.pipeline.{unknown[0]}: there is no such figure; there are {', '.join(sorted(known))}"
        )
    before, after = evaluation["before"], evaluation["after"]
    checks = []
    for name, bound in bounds.items():
        figure, relation = known[name]
        if figure not in after:
            setting = (LESS | MORE)[figure]
            raise StageError(
                f"gate.image.pipeline.{name} was not measured: set evaluate.image.{setting}, or leave it out"
            )
        value = after[figure]
        if name == "loss_ratio":
            value /= before["loss"]
        elif name != figure:
            value -= before[figure]
        others = {words: evaluation.get(row, {}).get(figure) for row, words in BESIDE.items()}
        beside = [f"{words} {other:.3g}" for words, other in others.items() if other is not None]
        checks.append(Check(name, value, relation, bound, note=", ".join([f"{figure} {after[figure]:.3g}", *beside])))
    return checks


def _bounded() -> dict[str, tuple[str, Relation]]:
    """What can be bounded of a brought pipeline: the figure that it is of, and how it must stand to the bound."""
    return {
        "loss_ratio": ("loss", Relation.AT_MOST),
        **{name: (figure, Relation.AT_MOST) for figure in LESS for name in (figure, f"{figure}_increase")},
        **{name: (figure, Relation.AT_LEAST) for figure in MORE for name in (figure, f"{figure}_gain")},
    }


def verdict(checks: Sequence[Check], parity: bool) -> dict[str, Any]:
    """The gate's document: every check with value, threshold and outcome, and whether all of them passed."""
    rows = [check.row() for check in checks]
    return {"passed": parity and all(check.passed for check in checks), "parity": parity, "checks": rows}


def refusals(document: dict[str, Any]) -> list[str]:
    """What a refused model failed at, in words."""
    failed = [
        in_words(row) + (f": {ADVICE[row['name']]}; see {SHEETS / 'beside.png'}" if row["name"] in ADVICE else "")
        for row in document["checks"]
        if not row["passed"]
    ]
    return failed if document["parity"] else [*failed, "the exported model's parity with PyTorch failed"]


def in_words(row: Mapping[str, Any]) -> str:
    """A check of the verdict: what was measured, what is asked for, and what that rests on."""
    note = f" ({row['note']})" if "note" in row else ""
    return f"{row['name']} is {row['value']:.4g}, must be {row['relation']} {row['threshold']:g}{note}"


def read_metrics(path: Path) -> dict[str, Any]:
    """A stage's metrics; raises `StageError` where the stage has not finished."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StageError(f"{path}: no readable metrics; run the stage that writes them: {error}") from error


def main(line: Line) -> None:
    """Write `metrics/<line>/gate.json`."""
    gates = config.load().gate
    evaluation = read_metrics(METRICS / line / "evaluate.json")
    verification = read_metrics(METRICS / line / "verify.json")
    try:
        checks = text_checks(evaluation, gates.text) if line == "text" else image_checks(evaluation, gates.image)
        document = verdict(checks, parity=verification["passed"])
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise StageError(f"metrics/{line}: not what the gate expects: {error!r}") from error
    write_text(METRICS / line / "gate.json", canonical(document))
    words = [in_words(row) for row in document["checks"]] if document["passed"] else refusals(document)
    print(f"gate {line} {'passed' if document['passed'] else 'refused'}: {'; '.join(words)}")


if __name__ == "__main__":
    run(main)
