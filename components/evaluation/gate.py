"""Stage `gate`: may this model go on? Compares measured values with the thresholds of `params.yaml`, line by line.

The verdict is a file and the stage never fails over a refusal, so that a refused model keeps its evidence; it is the
next stage, `package`, that refuses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from components import config
from components.artifact import canonical, write_text
from components.config import GateImage, GateText, Line
from components.paths import METRICS
from components.stage import StageError, run

ONE_SIDED_95 = 1.645  # standard errors
PIPELINE_CHECKS = ("loss_ratio", "alignment_gain", "kid_increase")


class Relation(StrEnum):
    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True)
class Check:
    """One comparison and its outcome; `relation` is how `value` must stand to `threshold`."""

    name: str
    value: float
    relation: Relation
    threshold: float

    @property
    def passed(self) -> bool:
        return self.value <= self.threshold if self.relation is Relation.AT_MOST else self.value >= self.threshold

    def row(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def text_checks(evaluation: dict[str, Any], gate: GateText) -> list[Check]:
    """Fine-tuning must beat the base model's held-out loss, and answers that need no model.

    `chrf_gain_lower` is the lower end of the gain's one-sided 95 % interval over phrases, `exact_gain` an estimate.
    """
    least_loss = min(evaluation[name]["loss"] for name in ("before", "unigram"))
    gain = evaluation["gain"]
    return [
        Check("loss_ratio", evaluation["after"]["loss"] / least_loss, Relation.AT_MOST, gate.max_loss_ratio),
        Check("chrf_gain_lower", gain["chrf_lower"], Relation.AT_LEAST, gate.min_chrf_gain),
        Check("exact_gain", gain["exact"], Relation.AT_LEAST, gate.min_exact_gain),
    ]


def image_checks(evaluation: dict[str, Any], gate: GateImage) -> list[Check]:
    """Pictures must surely be close enough to held-out ones, and show what their prompts say.

    `kid_upper` is the upper end of KID's one-sided 95 % interval, over captions like the held-out ones.
    `named_shortfall` is how much less often the judge names generated pictures than real ones, by point estimate.
    """
    if "judge_on_real_pictures" not in evaluation:  # of a brought pipeline, of which the judge knows nothing
        return pipeline_checks(evaluation, gate.pipeline)
    after, real = evaluation["after"], evaluation["judge_on_real_pictures"]
    kid_upper = after["kid"] + ONE_SIDED_95 * after["kid_standard_error"]
    shortfall = real["seen_captions"]["top1"] - after["seen_captions"]["top1"]
    return [
        Check("kid_upper", kid_upper, Relation.AT_MOST, gate.max_kid_upper),
        Check("alignment", after["alignment"], Relation.AT_LEAST, gate.min_alignment),
        Check("named_shortfall", shortfall, Relation.AT_MOST, gate.max_named_shortfall),
    ]


def pipeline_checks(evaluation: dict[str, Any], bounds: dict[str, float]) -> list[Check]:
    """Those that `gate.image.pipeline` names; raises `StageError` for a name that is none, or was not measured."""
    before, after = evaluation["before"], evaluation["after"]
    measured = {"loss_ratio": (Relation.AT_MOST, after["loss"] / before["loss"])}
    if "alignment" in after:
        measured["alignment_gain"] = (Relation.AT_LEAST, after["alignment"] - before["alignment"])
        measured["kid_increase"] = (Relation.AT_MOST, after["kid"] - before["kid"])
    for name in bounds:
        if name not in PIPELINE_CHECKS:
            known = ", ".join(PIPELINE_CHECKS)
            raise StageError(f"gate.image.pipeline.{name}: there is no such figure; there are {known}")
        if name not in measured:
            raise StageError(
                f"gate.image.pipeline.{name} was not measured: set evaluate.image.encoder, or leave it out"
            )
    return [Check(name, measured[name][1], measured[name][0], bound) for name, bound in bounds.items()]


def verdict(checks: Sequence[Check], parity: bool) -> dict[str, Any]:
    """The gate's document: every check with value, threshold and outcome, and whether all of them passed."""
    rows = [check.row() for check in checks]
    return {"passed": parity and all(check.passed for check in checks), "parity": parity, "checks": rows}


def refusals(document: dict[str, Any]) -> list[str]:
    """What a refused model failed at, in words."""
    failed = [
        f"{row['name']} is {row['value']:.4g}, must be {row['relation']} {row['threshold']:g}"
        for row in document["checks"]
        if not row["passed"]
    ]
    return failed if document["parity"] else [*failed, "the exported model's parity with PyTorch failed"]


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
    print(f"gate {line}: " + ("passed" if document["passed"] else "refused: " + "; ".join(refusals(document))))


if __name__ == "__main__":
    run(main)
