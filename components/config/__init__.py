"""Configuration: `params.yaml` becomes one frozen, strict, typed object for each section.

Knows the names, types and bounds of every parameter and nothing of what the stages do with them. Credentials are never
read here: they come from the environment of the process that needs them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from components.config.base import (
    NAME,
    Line as Line,
    Precision as Precision,
    Settings as Settings,
    Strategy as Strategy,
)
from components.config.document import ConfigError as ConfigError, read_yaml
from components.config.experiment import Experiment as Experiment, Guardrails as Guardrails, Variant as Variant
from components.config.keys import REPLACED, nearest
from components.config.service import (
    Annotation as Annotation,
    Audience as Audience,
    Events as Events,
    Feedback as Feedback,
    Learning as Learning,
    Monitor as Monitor,
    Registry as Registry,
    Release as Release,
    Serving as Serving,
    Stack as Stack,
    Tiers as Tiers,
)
from components.config.stages import (
    BaseImage as BaseImage,
    BaseText as BaseText,
    Clean as Clean,
    EvaluateImage as EvaluateImage,
    EvaluateText as EvaluateText,
    Example as Example,
    ExportImage as ExportImage,
    ExportText as ExportText,
    Fetch as Fetch,
    FilterEntry as FilterEntry,
    GateImage as GateImage,
    GateText as GateText,
    ImageModel as ImageModel,
    ImageSamples as ImageSamples,
    Package as Package,
    Prepare as Prepare,
    Price as Price,
    Regularisation as Regularisation,
    Split as Split,
    TextJudge as TextJudge,
    TrainBase as TrainBase,
    TrainImage as TrainImage,
    TrainText as TrainText,
    Tune as Tune,
    TuneSampling as TuneSampling,
    VerifyImage as VerifyImage,
    VerifyText as VerifyText,
)

TextT = TypeVar("TextT", bound=Settings)
ImageT = TypeVar("ImageT", bound=Settings)


class ByLine(Settings, Generic[TextT, ImageT]):
    text: TextT
    image: ImageT


class BaseModels(Settings):
    text: BaseText
    image: BaseImage


class Params(Settings):
    """The whole of `params.yaml`."""

    fetch: Fetch
    base: BaseModels
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
    experiments: tuple[Experiment, ...] = Field(description="What `atelier experiment apply` puts in force")
    learning: Learning
    audience: Audience
    monitor: Monitor

    @model_validator(mode="after")
    def _experiments_fit(self) -> Params:
        for what in ("name", "salt"):
            values = [getattr(experiment, what) for experiment in self.experiments]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"experiments: {what} {sorted(twice)[0]!r} is given twice")
        for experiment in self.experiments:
            for name in (experiment.name, *experiment.variants):
                if not NAME.fullmatch(name):
                    rule = "a name travels in headers: 1 to 100 printable ASCII characters, no white space around them"
                    raise ValueError(f"experiments: {experiment.name!r}: {name!r} is no name; {rule}")
            for key, value in experiment.segment.items():
                if value not in self.feedback.segments.get(key, ()):
                    raise ValueError(f"experiments: {experiment.name}: feedback.segments has no {key}={value}")
        for layer in {experiment.layer for experiment in self.experiments}:
            shares = {experiment.name: experiment.share for experiment in self.experiments if experiment.layer == layer}
            if (total := sum(shares.values())) > 1 + 1e-9:
                terms = " + ".join(f"{share:g} ({name})" for name, share in shares.items())
                raise ValueError(f"experiments: shares of {layer} users sum to {total:g}, over 1: {terms}")
        return self


@lru_cache
def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the parameters file; raises `ConfigError` listing every wrong key at once."""
    document = read_yaml(path)
    try:
        # Strict JSON validation accepts lists for tuples and strings for paths, and still coerces nothing else.
        return Params.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise ConfigError(f"{path}: {refusal(error, Params)}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def refusal(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> str:
    """What is wrong with each key of a document of that schema, which stands at `prefix` in params.yaml."""
    return "; ".join(_described(one, schema, prefix) for one in error.errors())


def _described(error: ErrorDetails, schema: type[BaseModel], prefix: str) -> str:
    """What is wrong with one parameter: its full name, what was expected, the value."""
    place, value = ".".join(map(str, (prefix, *error["loc"]))).removeprefix("."), error["input"]
    got = "" if isinstance(value, dict) else f" (got {value!r})"
    if place in REPLACED:
        return f"{place} {REPLACED[place]}"
    if error["type"] == "missing":
        return f"{place}: is missing" + ("" if prefix else "; the params.yaml that comes with this version shows it")
    if error["type"] == "extra_forbidden":
        meant = nearest(schema, error["loc"])
        return f"{place}: there is no such parameter{got}" + (f"; did you mean {meant}?" if meant else "")
    hint = ", true or false" if error["type"] == "bool_type" else ""
    return f"{place}: {error['msg']}{hint}{got}"
