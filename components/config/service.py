"""Parameters of what has an effect on servers and people: registry, annotation, serving, releases, experiments,
learning and monitoring.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from components.config.base import (
    Count,
    Digest,
    Fraction,
    Line,
    Port,
    Positive,
    Seed,
    Segment,
    Stage,
    Temperature,
    TopP,
)


class Registry(Stage):
    tracking_uri: str
    artifact_root: str
    experiment: str


class Tiers(Stage):
    """How many answers a label takes, and who judges; `make bench NAME=tiers` measures the policy.

    `first`, `most`: annotators at the start and at the most; `certain`: probability from which no further answer is
    asked for; `review_from`: the one from which a reviewer is asked, not another annotator; `rejections`: how often a
    reviewer sends a task back before an arbiter has it; `gold_share`: of a batch, the tasks whose label is known;
    `min_accuracy`: who is surely below it is named in every report; `expected`: accuracy of a stranger in each tier;
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
    """A Label Studio server, the project's title there, and how many samples people are asked about at a time.

    `template`: what they are asked: a picture's category, a better caption, how well the two go together, or which of
    two answers of the text line is better (`preference`, where `worth` does not count).

    `worth`: labelling stops where all labels that are left are expected to add less than that to accuracy.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^/]+")]
    project: Annotated[str, Field(min_length=3, max_length=30)]
    template: Literal["category", "caption", "rating", "preference"]
    batch: Annotated[int, Field(ge=1, le=100_000)]
    worth: Fraction
    tiers: Tiers


class Serving(Stage):
    """Ports, bounds and sampling defaults of the three Bentos.

    `max_concurrency`, `max_queue`: requests of each line in work and waiting. `request_timeout`: seconds until an
    answer ends, the wait included.

    `host` is the address at which the gateway listens; the models, whose ports follow, listen on loopback.
    `text_b_port`, `image_b_port`: where a candidate answers beside the champion. The sampling defaults are also what
    evaluation, export and the checks of parity sample with.
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
    text_max_prompt_tokens: Count
    text_max_new_tokens: Count
    text_temperature: Temperature
    text_top_p: TopP


class Stack(Stage):
    """Ports of the programs beside the Bentos, on loopback; not 9090 and 9093, which Debian's services take."""

    prefect_port: Port
    mlflow_port: Port
    prometheus_port: Port
    alertmanager_port: Port


class Events(Stage):
    url: str


class Release(Stage):
    """How a candidate earns its users; `canary`: whether `atelier release` sends it that way without being told to.

    Of each state it needs `min_requests` and `min_seconds`. `max_failures` and `max_slow` are shares of its calls, slow
    being over `slow_seconds` of the line; `max_less_liked` is by how much less its users may like it than the champion:
    the A/B comparison goes on until that is shown. `attribution_seconds`: a user counts by what they do within that
    time after their first request in the state, and once it is over; well below `min_seconds`, or nobody counts in the
    shortest time that a state takes. `alpha` is the chance that a good candidate is found bad in one state.
    """

    canary: bool
    shadow_share: Fraction
    min_requests: Count
    min_seconds: Annotated[int, Field(ge=0)]
    max_failures: Annotated[float, Field(gt=0, lt=1)]
    max_slow: Annotated[float, Field(gt=0, lt=1)]
    slow_seconds: dict[Line, Positive]
    max_less_liked: Annotated[float, Field(gt=0, le=1)]
    attribution_seconds: Annotated[int, Field(gt=0, le=604_800)]
    alpha: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _every_line(self) -> Release:
        if missing := set(get_args(Line)) - set(self.slow_seconds):
            raise ValueError(f"slow_seconds has no {', '.join(sorted(missing))}")
        return self


class Variant(Stage):
    """What a variant's users are served with: `temperature` of text, `guidance` and `steps` of pictures, each where it
    differs from the defaults in `serving`; `adapter`, of text: the digest of the one on top of the champion."""

    weight: Fraction
    temperature: Temperature | None = None
    adapter: Digest | None = None
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
    """An experiment; variant weights sum to 1. Without `guardrails` none is watched.

    `segment`: whose users are in it, such as plan: paid; none: of all. `share`: of its users, in steps of 0.0001. A
    request is in one experiment of a line at most, that of its user's segment before that of all. `policy`: `fixed`
    weights are an operator's to change; `thompson` moves them to what is liked, each at least `floor`, and those given
    here are where it starts. `metric` decides; `regenerate` cannot, as less of it is better. `dwell_cap_s`: seconds on
    an answer from which longer counts as that. `min_users` of each variant: below it a segment is not compared.
    `attribution_hours`: a user's outcome is what they do within that time after their first request inside. Then it
    changes no more, and only then does it count.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    line: Line
    salt: Annotated[str, Field(min_length=1)]
    variants: Annotated[dict[str, Variant], Field(min_length=2)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    srm_alpha: Annotated[float, Field(gt=0, lt=1)]
    segment: Annotated[dict[Segment, Segment], Field(max_length=1, default_factory=dict)]
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    policy: Literal["fixed", "thompson"] = "fixed"
    floor: Annotated[float, Field(ge=0.001, le=0.5)] = 0.05
    metric: Literal["like", "click", "save", "dwell"] = "like"
    dwell_cap_s: Positive = 120.0
    min_users: Count = 20
    attribution_hours: Annotated[float, Field(gt=0, le=2160)] = 24.0
    guardrails: Guardrails | None = None

    @property
    def attribution_seconds(self) -> float:
        return 3600 * self.attribution_hours

    @property
    def weights(self) -> dict[str, float]:
        return {name: variant.weight for name, variant in self.variants.items()}

    @property
    def layer(self) -> str:
        """What its users are shared out on, with every experiment of the same line and segment."""
        return " ".join([self.line, *(f"{key}={value}" for key, value in self.segment.items())])

    @cached_property
    def compared(self) -> frozenset[str]:
        """The parameters that some variant sets."""
        return frozenset(name for one in self.variants.values() for name in one.model_dump(exclude_none=True))

    def covers(self, line: str, segments: Mapping[str, str], chosen: AbstractSet[str]) -> bool:
        """Whether a request on the line, of a user of these segments, may be in it.

        One that has `chosen` what variants differ in may not: its answer would tell nothing of them.
        """
        return self.line == line and self.segment.items() <= segments.items() and not chosen & self.compared

    def weighted(self, weights: Mapping[str, float]) -> Experiment:
        """The same experiment with other weights."""
        variants = {name: one.model_copy(update={"weight": weights[name]}) for name, one in self.variants.items()}
        return self.model_copy(update={"variants": variants})

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Experiment:
        total = sum(self.weights.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"variant weights of {self.name} sum to {total}, not 1")
        if self.policy == "thompson" and self.floor * len(self.variants) > 1:
            raise ValueError(f"{self.name}: {len(self.variants)} variants of floor {self.floor} at least exceed 1")
        return self

    @model_validator(mode="after")
    def _slowness_shows_within_the_window(self) -> Experiment:
        if self.guardrails and self.guardrails.slo_s >= self.attribution_seconds:
            raise ValueError(
                f"attribution_hours of {self.name} are {self.attribution_seconds:g} s: no request can be found slower "
                f"than slo_s ({self.guardrails.slo_s:g} s) within that; make them longer"
            )
        return self

    @model_validator(mode="after")
    def _share_in_steps(self) -> Experiment:
        if abs(self.share - round(self.share, 4)) > 1e-9:
            raise ValueError(f"share {self.share} of {self.name} is no multiple of 0.0001")
        return self

    @model_validator(mode="after")
    def _parameters_of_the_line(self) -> Experiment:
        known = {"text": {"temperature", "adapter"}, "image": {"guidance", "steps"}}[self.line] | {"weight"}
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
