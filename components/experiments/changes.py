"""What has to change so that the experiments that are declared are in force, or why that must not be. Pure.

What runs and is not declared goes on and is only reported: ending one cannot be undone, so it is never done in passing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from components.config import Experiment
from components.experiments.assignment import UNITS, Placed, allocate, in_units, place
from components.experiments.versions import ExperimentRefusedError, State, Version

FIXED = ("line", "segment", "salt", "metric", "attribution_hours")  # who is in, where, and what decides
Seen = Callable[[str], set[str]]  # the variants of an experiment that have had users


def changes(declared: Sequence[Experiment], newest: Sequence[Version], seen: Seen) -> tuple[list[Placed], list[str]]:
    """(new versions to write, messages about all that an operator should know).

    Raises `ExperimentRefusedError`, by name, for what would spoil a running experiment or does not fit.
    """
    ended = {version.name: version for version in newest if version.state is State.ENDED}
    running = {version.name: version.placed for version in newest if version.name not in ended}
    wanted = {experiment.name: experiment for experiment in declared if experiment.name not in ended}
    messages = [_stays_ended(ended[experiment.name]) for experiment in declared if experiment.name in ended]
    for experiment in wanted.values():
        if experiment.name in running:
            _require_same_users(running[experiment.name].experiment, experiment, seen)
        else:
            _require_new_salt(experiment, newest)
    changed: list[Placed] = []
    for layer in sorted({experiment.layer for experiment in wanted.values()}):
        changed += _on_layer(layer, wanted, running)
    messages += [_difference(running.get(placed.experiment.name), placed) for placed in changed]
    undeclared = running.keys() - wanted.keys()
    messages += [f"{name} runs and is not declared: it goes on; {ending(name)}" for name in undeclared]
    return changed, messages


def ending(name: str) -> str:
    return f'`atelier experiment end {name} --why "…"` ends it'


def _on_layer(layer: str, wanted: dict[str, Experiment], running: dict[str, Placed]) -> list[Placed]:
    """What changes on one layer, whose experiments share its users out."""
    experiments = {name: placed.experiment for name, placed in running.items()} | wanted
    shares = {name: experiment.share for name, experiment in experiments.items() if experiment.layer == layer}
    units = in_units(shares)
    if sum(units.values()) > UNITS:
        listed = " + ".join(
            f"{share:g} ({name}{'' if name in wanted else ': not declared, ' + ending(name)})"
            for name, share in shares.items()
        )
        total = sum(units.values()) / UNITS
        raise ExperimentRefusedError(f"shares of {layer} users sum to {total:g}, over 1: {listed}")
    users = allocate(units, {name: running[name].users for name in units.keys() & running.keys()})
    changed = []
    for name in units.keys() & wanted.keys():
        before = running.get(name)
        now = place(_weighted(wanted[name], before), users[name], before.variants if before else None)
        if now != before:
            changed.append(now)
    return sorted(changed, key=lambda placed: placed.experiment.name)


def _weighted(declared: Experiment, before: Placed | None) -> Experiment:
    """Thompson's weights are its own from its first step on; those declared are where it starts."""
    current = before.experiment if before else None
    if current and declared.policy == "thompson" and declared.variants.keys() == current.variants.keys():
        return declared.weighted(current.weights)
    return declared


def _require_same_users(current: Experiment, declared: Experiment, seen: Seen) -> None:
    name = current.name
    instead = f"{ending(name)}, then begin another with a name and a salt of its own"
    for field in FIXED:
        before, now = getattr(current, field), getattr(declared, field)
        if before != now:
            change = f"{field} cannot change from {before} to {now}"
            raise ExperimentRefusedError(f"{name} runs, and its {change}: {instead}")
    gone = {variant for variant in current.variants if not _same_treatment(current, declared, variant)}
    if spoilt := sorted(gone & seen(name)) if gone else []:
        what = "is served otherwise" if spoilt[0] in declared.variants else "is missing"
        raise ExperimentRefusedError(
            f"{name} runs, and its variant {spoilt[0]}, which has had users, {what}: weight 0 takes it out of the "
            f"traffic; for anything else {instead}"
        )


def _same_treatment(current: Experiment, declared: Experiment, variant: str) -> bool:
    before, now = current.variants[variant], declared.variants.get(variant)
    return now is not None and now.model_copy(update={"weight": before.weight}) == before


def _require_new_salt(experiment: Experiment, newest: Sequence[Version]) -> None:
    for version in newest:
        if version.experiment.salt == experiment.salt:
            raise ExperimentRefusedError(
                f"{experiment.name} has the salt {experiment.salt} of {version.name}, and so its users would fall into "
                "variants alike: give it another"
            )


def _stays_ended(version: Version) -> str:
    return (
        f"{version.name} was ended by {version.who} ({version.why}) and stays so: take it out of params.yaml, or give "
        "it another name and salt to begin anew"
    )


def _difference(before: Placed | None, now: Placed) -> str:
    weights = ", ".join(f"{name} {weight:g}" for name, weight in now.experiment.weights.items())
    verb = "changes" if before else "begins"
    return f"{now.experiment.name} {verb}: {now.experiment.share:g} of {now.experiment.layer} users; {weights}"
