"""The experiment that tries a segment's adapter among its users, and what its outcome decides. Pure, but for the files
of the segment's data version.

Half of the segment's users take part at first. Where the treatment wins, another experiment begins in which it gets
nearly all of the segment and is watched as before. Both end with the champion that the adapter was made for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from pathlib import Path

from components.annotation.phrase_queue import prompt_key
from components.config import Experiment, Guardrails, Learning, Release, Variant
from components.data import feedback
from components.experiments.comparison import Verdict
from components.experiments.statistics import Analysis
from components.learning.data_version import changed_pairs, pairs_of, write_version
from components.learning.harvest import JudgedAnswer, harvest, set_apart

CONTROL, TREATMENT = "control", "treatment"
SHARE, EVEN = 0.5, 0.5  # of a segment's users who take part, and of these with the adapter, until it has won
WON_WEIGHT = 0.9  # of all the segment's users, once it has won; the others show whether it stays as good
SRM_ALPHA = 0.001
MIN_CHECKS = 10  # answers that held-out users of a segment liked, to be measured on


class EndReason(StrEnum):
    """Why an experiment ended, where its adapter may be tried again: how the recorded reason begins."""

    WON = "it won"
    CHAMPION_GONE = "its champion"


class Decision(StrEnum):
    """What a look at an adapter's experiment decides."""

    CONTINUE = "continue"
    WON = "won"
    END = "end"
    NO_GAIN = "no gain"


def end_reason(recorded: str) -> EndReason | None:
    """The reason that an ended experiment's record begins with, None where it rules its adapter out."""
    return next((reason for reason in EndReason if recorded.startswith(reason)), None)


def decide(analysis: Analysis, *, won_before: bool, expired: bool) -> Decision:
    """What an experiment's outcome so far decides; `expired`: it has run for as long as it may without a gain."""
    shifts = [c.shift for c in analysis.comparisons if c.verdict is Verdict.CHANGED]
    if analysis.verdict is Verdict.BETTER and not won_before:
        return Decision.WON
    if analysis.verdict in (Verdict.WORSE, Verdict.HARMFUL) or any(s is None or s.mean < 0 for s in shifts):
        return Decision.END
    return Decision.NO_GAIN if expired and not won_before else Decision.CONTINUE


def describe(analysis: Analysis, answers: int, with_adapter: int) -> str:
    """An experiment's outcome so far, and how many of the treatment's answers the adapter has written."""
    low, high = analysis.interval
    users = f"{sum(arm.users for arm in analysis.arms)} users, {analysis.still_open} more do not count yet"
    wrote = f"it wrote {with_adapter} of {answers} answers of {TREATMENT}"
    return f"{analysis.reason} {100 * low:+.1f} to {100 * high:+.1f} points, {users}; {wrote}"


def has_won(experiment: Experiment) -> bool:
    """Whether the experiment watches an adapter that has won before."""
    return experiment.weights[TREATMENT] == WON_WEIGHT


def adapter_of(experiment: Experiment) -> str:
    """The digest of the adapter that the experiment tries; empty for any other experiment."""
    adapter = experiment.variants[TREATMENT].adapter if TREATMENT in experiment.variants else None
    return adapter if adapter and experiment.name.startswith(experiment_name(experiment.segment, adapter)) else ""


def experiment_name(segment: Mapping[str, str], adapter: str) -> str:
    """How the names of an adapter's experiments begin."""
    return f"adapter-{segment_name(segment)}-{adapter[:8]}"


def segment_name(segment: Mapping[str, str]) -> str:
    """A segment as files and experiments name it: `plan=paid`."""
    return "-".join(f"{key}={value}" for key, value in segment.items())


def adapter_experiment(
    limits: Release, segment: Mapping[str, str], adapter: str, earlier: int = 0, *, won_before: bool = False
) -> Experiment:
    """Users of the segment with the adapter and without, by likes; it may not be slower or fail more often than a
    release may (`limits`). `earlier`: how many experiments of it there were."""
    weight = WON_WEIGHT if won_before else EVEN
    name = experiment_name(segment, adapter) + (f"-{earlier + 1}" if earlier else "")
    guardrails = Guardrails(
        slo_s=limits.slow_seconds["text"],
        slow=limits.max_slow,
        failed=limits.max_failures,
        refused=limits.max_failures,
    )
    return Experiment(
        name=name,
        line="text",
        salt=name,
        segment=dict(segment),
        share=1.0 if won_before else SHARE,
        variants={CONTROL: Variant(weight=1 - weight), TREATMENT: Variant(weight=weight, adapter=adapter)},
        alpha=limits.alpha,
        srm_alpha=SRM_ALPHA,
        guardrails=guardrails,
    )


def write_segment_version(
    answers: Iterable[JudgedAnswer],
    settings: Learning,
    simulated: AbstractSet[str],
    training: Callable[[], Sequence[str]],
    folder: Path,
) -> str:
    """Write a segment's data version where it differs enough from the one at hand; says why there is none, else "".

    `training` reads the phrases that the champion was trained on, which test nothing; only where enough is new.
    """
    result = harvest(answers, settings, simulated)
    pairs, enough = pairs_of(result, ()), settings.min_new
    if len(pairs) >= enough and changed_pairs(pairs, folder) >= enough:
        taught = {pair["prompt"] for pair in pairs} | set(training())
        apart = set_apart(result, {prompt_key(prompt) for prompt in taught})
        checks = sum(answer.liked for answer in apart.held_out)
        if checks < MIN_CHECKS:
            return f"held-out users liked {checks} answers to other prompts, {MIN_CHECKS} are needed to measure it on"
        write_version(pairs, apart, settings, folder)
    return f"{len(pairs)} pairs, {enough} are needed" if feedback.digest(folder) is None else ""
