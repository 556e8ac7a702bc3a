"""Settings of an experiment: who is in it, what its variants are served with, and what decides it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from components.config.base import Count, Digest, Fraction, Line, Positive, Segment, Settings, Temperature


class Variant(Settings):
    """What a variant's users are served with, where it differs from the defaults in `serving`."""

    weight: Fraction = Field(description="Share of the experiment's users; all variants' sum to 1")
    temperature: Temperature | None = Field(
        default=None, description="Of the text line; 0 always takes the likeliest token"
    )
    adapter: Digest | None = Field(default=None, description="Of the text line: digest of the adapter on the champion")
    guidance: float | None = Field(ge=0, le=50, default=None, description="Of the image line: weight of a caption")
    steps: int | None = Field(
        ge=1, le=1000, default=None, description="Of the image line: denoising steps of a picture"
    )


class Guardrails(Settings):
    """What a treatment must not worsen."""

    slo_s: Positive = Field(description="Time from which a request counts as slow, in seconds")
    slow: Fraction = Field(description="By how much the share of slow requests may exceed control's")
    failed: Fraction = Field(description="By how much the share of failed requests may exceed control's")
    refused: Fraction = Field(
        description="By how much the share of requests answered with nothing may exceed control's"
    )

    def margins(self) -> dict[str, float]:
        return {"slow": self.slow, "failed": self.failed, "refused": self.refused}


class Experiment(Settings):
    """A request is in one experiment of a line at most: that of its user's segment comes before that of all users."""

    name: str = Field(min_length=1, max_length=100, description="Name in headers, reports and commands")
    line: Line = Field(description="Line whose requests it takes")
    salt: str = Field(
        min_length=1, description="Text of its own that users are assigned by; never changed, never used again"
    )
    variants: dict[str, Variant] = Field(
        min_length=2,
        description="Variants by name; `control`, or else the first by name, is what the others are compared with",
    )
    alpha: float = Field(gt=0, lt=1, description="Chance that a difference is reported where there is none")
    srm_alpha: float = Field(gt=0, lt=1, description="Chance that a sample ratio is called wrong that is right")
    segment: dict[Segment, Segment] = Field(
        max_length=1, default_factory=dict, description="Whose users are in it, such as plan: paid; none: all users"
    )
    share: float = Field(gt=0, le=1, default=1.0, description="Share of those users who are in it, in steps of 0.0001")
    policy: Literal["fixed", "thompson"] = Field(
        default="fixed", description="Who changes weights: an operator (fixed), or what users like (thompson)"
    )
    floor: float = Field(ge=0.001, le=0.5, default=0.05, description="Least weight that thompson gives a variant")
    metric: Literal["like", "click", "save", "dwell"] = Field(default="like", description="Reaction that decides")
    dwell_cap_s: Positive = Field(
        default=120.0, description="Time on an answer from which longer counts as that, in seconds"
    )
    min_users: Count = Field(default=20, description="Users of each variant below which a segment is not compared")
    attribution_hours: float = Field(
        gt=0,
        le=2160,
        default=24.0,
        description="Hours from a user's first request within which reactions count; then the user counts",
    )
    guardrails: Guardrails | None = Field(default=None, description="Limits beside the metric; null watches none")

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
        return frozenset(name for variant in self.variants.values() for name in variant.model_dump(exclude_none=True))

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
