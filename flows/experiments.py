"""Experiments in the project's database: what params.yaml declares is put in force, listed, ended and, each minute,
moved by Thompson sampling where an experiment asks for that. Gateways follow within about a second.

Thin: the rules are in `components.experiments`.
"""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Engine

from components.config import Params
from components.events import window
from components.events.database import opened
from components.events.ledger import Note, OvertakenError
from components.experiments import store, thompson
from components.experiments.exposures import ExperimentError
from components.experiments.replay import Estimate
from components.experiments.versions import State, Version, history, newest, running
from components.releases.report import clock
from components.stage import StageError
from flows.driver import logger, person

DECLARED = "declared in params.yaml"
WORTH_IT = 0.01  # change of a weight: smaller ones would write a version a minute, and move hardly anybody
REACTION_SECONDS = 60.0  # a request younger than that says nothing yet: its user has not had the time to like it


def declare(params: Params, why: str = DECLARED) -> list[str]:
    """Put the experiments of params.yaml in force; says in words what changed. Raises `ExperimentRefusedError`."""
    with opened(params.events.url) as engine:
        return store.apply(engine, params.experiments, Note(person(), why))


def end(params: Params, name: str, why: str) -> str:
    with opened(params.events.url, create=False) as engine:
        store.end(engine, name, Note(person(), why))
    return f"{name} has ended: its users get the line's defaults"


def listed(params: Params) -> list[str]:
    """Each running experiment in a line."""
    with opened(params.events.url, create=False) as engine:
        return [describe(version) for version in running(engine)] or ["no experiment runs"]


def recorded(params: Params, name: str | None) -> list[str]:
    """Every version, of one experiment or of all, oldest first."""
    with opened(params.events.url, create=False) as engine:
        versions = history(engine, name)
        if name and not versions:
            store.find(newest(engine), name)  # says which there are
    nothing = ["no experiment is recorded yet; `atelier experiment apply` does it"]
    return [describe(version) for version in versions] or nothing


def describe(version: Version) -> str:
    """When, what, by whom and why."""
    experiment, state = version.experiment, "ended"
    if version.state is State.RUNNING:
        weights = ", ".join(f"{name} {weight:.2%}" for name, weight in experiment.weights.items())
        state = f"{experiment.share:.2%} of {experiment.layer} users, {experiment.policy}: {weights}"
    return f"{clock(version.time)} {version.name} version {version.version}, {state}; by {version.who}: {version.why}"


def step(params: Params) -> list[str]:
    """Move the weights of every experiment whose policy is Thompson's to what was liked so far; says what was done."""
    with opened(params.events.url) as engine:
        names = [version.name for version in running(engine) if version.experiment.policy == "thompson"]
        outcomes = [allocate(engine, params, name) for name in names]
    for outcome in outcomes:
        logger().info("%s", outcome)
    return outcomes


def allocate(engine: Engine, params: Params, name: str) -> str:
    """One experiment's step."""
    seen = newest(engine)
    experiment = store.find(seen, name).experiment
    unit = experiment.dwell_cap_s if experiment.metric == "dwell" else 1.0
    tallies = window.tallies(params.events.url, name, experiment.metric, unit, time.time() - REACTION_SECONDS)
    rewards = {variant: tallies.get(variant, (0.0, 0)) for variant in experiment.variants}
    weights = thompson.weights({v: (got, users - got) for v, (got, users) in rewards.items()}, experiment.floor)
    if all(abs(weights[v] - weight) < WORTH_IT for v, weight in experiment.weights.items()):
        return f"{name}: the weights stay"
    counted = ", ".join(f"{variant} {got:.1f} of {users}" for variant, (got, users) in rewards.items())
    try:
        placed = store.reweigh(engine, seen, name, weights, Note("thompson", f"{experiment.metric} so far: {counted}"))
    except OvertakenError as error:  # the next minute's step sees both
        return f"{name}: the weights stay, as {error}"
    return f"{name}: {', '.join(f'{v} {weight:.2%}' for v, weight in placed.experiment.weights.items())}"


def rank(params: Params, name: str, file: Path) -> list[str]:
    """The candidates of a file, best first, by replay of the experiment's requests; then those refused, and why."""
    from monitoring.policies import ranked, read_candidates

    with opened(params.events.url, create=False) as engine:
        versions = history(engine, name)
        experiment = versions[-1].experiment if versions else store.find(newest(engine), name).experiment
    candidates = read_candidates(file, experiment)
    requests = window.experiment_requests(params.events.url, name, experiment.line, time.time())
    try:
        values, refused = ranked(experiment, requests, candidates)
    except ExperimentError as error:
        raise StageError(f"{name} cannot be replayed: {error}") from error
    rows = [
        f"{candidate}: {_bounds(value.doubly_robust)} doubly robust, {_bounds(value.snips)} self-normalised, "
        f"worth {value.effective:.0f} requests"
        for candidate, value in values
    ]
    return rows + [f"{candidate}: refused, {reason}" for candidate, reason in refused.items()]


def _bounds(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.interval[0]:.3f} to {estimate.interval[1]:.3f})"
