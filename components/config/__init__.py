"""Configuration: `params.yaml` becomes one frozen, strict, typed object per stage.

Knows the names, types and bounds of every parameter and nothing of what the stages do with them. Credentials are never
read here: they come from the environment of the process that needs them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from components.config.base import NAME, Line, Precision, Stage, Strategy
from components.config.document import ConfigError, read_yaml
from components.config.service import (
    Annotation,
    Audience,
    Events,
    Experiment,
    Feedback,
    Guardrails,
    Learning,
    Monitor,
    Registry,
    Release,
    Serving,
    Stack,
    Tiers,
    Variant,
)
from components.config.spelling import REPLACED, nearest
from components.config.stages import (
    Clean,
    EvaluateImage,
    EvaluateText,
    Example,
    ExportImage,
    ExportText,
    Fetch,
    GateImage,
    GateText,
    ImageModel,
    Package,
    Prepare,
    Split,
    TrainBase,
    TrainImage,
    TrainText,
    Tune,
    TuneSampling,
    VerifyImage,
    VerifyText,
)

__all__ = [
    "Annotation",
    "Audience",
    "ByLine",
    "Clean",
    "ConfigError",
    "EvaluateImage",
    "EvaluateText",
    "Events",
    "Example",
    "Experiment",
    "ExportImage",
    "ExportText",
    "Feedback",
    "Fetch",
    "GateImage",
    "GateText",
    "Guardrails",
    "ImageModel",
    "Learning",
    "Line",
    "Monitor",
    "Package",
    "Params",
    "Precision",
    "Prepare",
    "Registry",
    "Release",
    "Serving",
    "Split",
    "Stack",
    "Stage",
    "Strategy",
    "Tiers",
    "TrainBase",
    "TrainImage",
    "TrainText",
    "Tune",
    "TuneSampling",
    "Variant",
    "VerifyImage",
    "VerifyText",
    "load",
]

TextT = TypeVar("TextT", bound=Stage)
ImageT = TypeVar("ImageT", bound=Stage)


class ByLine(Stage, Generic[TextT, ImageT]):
    text: TextT
    image: ImageT


class Params(Stage):
    """The whole of `params.yaml`."""

    fetch: Fetch
    example: Example
    prepare: ByLine[Prepare, Prepare]
    clean: ByLine[Clean, Clean]
    split: ByLine[Split, Split]
    train: ByLine[TrainText, TrainImage]
    tune: Tune
    tune_sampling: TuneSampling
    evaluate: ByLine[EvaluateText, EvaluateImage]
    export: ByLine[ExportText, ExportImage]
    verify: ByLine[VerifyText, VerifyImage]
    gate: ByLine[GateText, GateImage]
    registry: Registry
    annotation: Annotation
    serving: Serving
    stack: Stack
    events: Events
    release: Release
    feedback: Feedback
    experiments: tuple[Experiment, ...]
    learning: Learning
    audience: Audience
    monitor: Monitor

    @model_validator(mode="after")
    def _experiments_fit(self) -> Params:
        for what in ("name", "salt"):
            values = [getattr(experiment, what) for experiment in self.experiments]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"experiments: {what} {sorted(twice)[0]!r} is given twice")
        for one in self.experiments:
            for name in (one.name, *one.variants):
                if not NAME.fullmatch(name):
                    rule = "a name travels in headers: 1 to 100 printable ASCII characters, no white space around them"
                    raise ValueError(f"experiments: {one.name!r}: {name!r} is no name; {rule}")
            for key, value in one.segment.items():
                if value not in self.feedback.segments.get(key, ()):
                    raise ValueError(f"experiments: {one.name}: feedback.segments has no {key}={value}")
        for layer in {experiment.layer for experiment in self.experiments}:
            shares = {experiment.name: experiment.share for experiment in self.experiments if experiment.layer == layer}
            if sum(shares.values()) > 1 + 1e-9:
                told = " + ".join(f"{share:g} ({name})" for name, share in shares.items())
                total = sum(shares.values())
                raise ValueError(f"experiments: shares of {layer} users sum to {total:g}, over 1: {told}")
        return self


@lru_cache
def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the parameters file; raises `ConfigError` listing every wrong key at once."""
    document = read_yaml(path)
    try:
        # Strict JSON validation accepts lists for tuples and strings for paths, and still coerces nothing else.
        return Params.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(map(_in_words, error.errors()))) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _in_words(error: ErrorDetails) -> str:
    """What is wrong with one parameter: its full name, what was expected, the value."""
    place, value = ".".join(map(str, error["loc"])), error["input"]
    got = "" if isinstance(value, dict) else f" (got {value!r})"
    if place in REPLACED:
        return f"{place} {REPLACED[place]}"
    if error["type"] == "missing":
        return f"{place}: is missing; the params.yaml that comes with this version shows it"
    if error["type"] == "extra_forbidden":
        meant = nearest(Params, error["loc"])
        return f"{place}: there is no such parameter{got}" + (f"; did you mean {meant}?" if meant else "")
    hint = ", true or false" if error["type"] == "bool_type" else ""
    return f"{place}: {error['msg']}{hint}{got}"
