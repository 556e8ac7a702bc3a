"""What other ways of allocating an experiment's requests would have earned, by replay of those on record.

A candidate is a list of rules on what is known of a request before it is answered: the length of its prompt. The first
rule that fits gives the variants' weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from components.config import ConfigError, Experiment, Settings
from components.config.base import Count, Fraction
from components.config.document import read_yaml
from components.experiments.replay import Log, Value, rank
from components.stage import StageError
from monitoring.outcomes import scaled


class Rule(Settings):
    """The variants' weights, for prompts of `max_characters` at most; without that, for all that no rule above fits."""

    max_characters: Count | None = None
    weights: dict[str, Fraction]

    @model_validator(mode="after")
    def _sum_to_one(self) -> Rule:
        if abs(sum(self.weights.values()) - 1) > 1e-9:
            raise ValueError(f"weights sum to {sum(self.weights.values())}, not 1")
        return self


Candidates = dict[str, Annotated[list[Rule], Field(min_length=1)]]


def read_candidates(path: Path, experiment: Experiment) -> Candidates:
    """Candidates by name from a YAML file; raises `StageError` for what is no allocation of the experiment."""
    try:
        candidates = TypeAdapter(Candidates).validate_json(json.dumps(read_yaml(path)))
    except ConfigError as error:
        raise StageError(str(error)) from error
    except ValidationError as error:
        errors = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StageError(f"{path}: {errors}") from error
    for name, rules in candidates.items():
        named = {variant for rule in rules for variant in rule.weights}
        if unknown := named - experiment.variants.keys():
            known = ", ".join(experiment.variants)
            raise StageError(f"{path}: {name} names {sorted(unknown)[0]}, and {experiment.name} has {known}")
        if rules[-1].max_characters is not None:
            raise StageError(f"{path}: the last rule of {name} must fit every prompt: leave its max_characters out")
    return candidates


def logged(experiment: Experiment, requests: Iterable[Mapping[str, Any]]) -> tuple[Log, NDArray[np.int64]]:
    """The finished requests inside the experiment as decisions, and the characters (n,) of their prompts.

    Actions are the variants in the order of the definition. Raises `ExperimentError` where there are none.
    """
    number = {name: i for i, name in enumerate(experiment.variants)}
    mine = [
        (row["prompt_length"], number[row["variant"]], row["propensity"], row[experiment.metric], row["user_key"])
        for row in requests
        if row["experiment"] == experiment.name and row["outcome"] is not None and row["variant"] in number
    ]
    lengths = np.array([length for length, *_ in mine], dtype=np.int64)
    users = {user: i for i, user in enumerate(dict.fromkeys(user for *_, user in mine))}
    log = Log(
        context=np.log1p(lengths.astype(np.float64))[:, None],
        action=np.array([action for _, action, *_ in mine], dtype=np.int64),
        propensity=np.array([propensity for _, _, propensity, *_ in mine], dtype=np.float64),
        reward=np.array([scaled(experiment.metric, said, experiment.dwell_cap_s) for *_, said, _ in mine]),
        user=np.array([users[user] for *_, user in mine], dtype=np.int64),
    )
    return log, lengths


def ranked(
    experiment: Experiment, requests: Iterable[Mapping[str, Any]], candidates: Candidates
) -> tuple[list[tuple[str, Value]], dict[str, str]]:
    """Candidates, best first, and those refused with the reason: the log says too little of what they would do."""
    log, lengths = logged(experiment, requests)
    return rank(log, {name: _policy(experiment, rules, lengths) for name, rules in candidates.items()})


def each_variant(experiment: Experiment) -> Candidates:
    """The candidates that give everybody the same variant."""
    return {name: [Rule(weights={name: 1.0})] for name in experiment.variants}


def _policy(experiment: Experiment, rules: Sequence[Rule], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, K) probabilities."""
    policy_nK = np.zeros((len(lengths), len(experiment.variants)))
    for rule in reversed(rules):  # so that the first that fits is what stays
        fits = np.full(len(lengths), True) if rule.max_characters is None else lengths <= rule.max_characters
        policy_nK[fits] = [rule.weights.get(name, 0.0) for name in experiment.variants]
    return policy_nK
