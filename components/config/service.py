"""Settings of what has an effect on servers and people, from the registry to monitoring; experiments are beside."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from components.config.base import Count, Fraction, Line, Port, Positive, Seed, Segment, Settings, Temperature, TopP


class Registry(Settings):
    tracking_uri: str = Field(description="Where MLflow keeps runs and models: a database's or a server's URL")
    artifact_root: str = Field(description="Where MLflow keeps files: a folder or an object store's URL")
    experiment: str = Field(description="MLflow's experiment that runs are logged to")


class Tiers(Settings):
    """How many answers a label takes, and who judges; `make bench NAME=tiers` measures the policy."""

    first: Count = Field(description="Annotators of a task at the start")
    most: Count = Field(description="Annotators of a task at most")
    certain: Fraction = Field(description="Probability of a label from which no further answer is asked for")
    review_from: Fraction = Field(
        description="Probability of a label from which a reviewer is asked, not another annotator"
    )
    rejections: int = Field(ge=0, description="Times that a reviewer sends a task back before an arbiter has it")
    gold_share: float = Field(ge=0, lt=1, description="Share of a batch whose label is known, to judge people by")
    min_accuracy: Fraction = Field(description="Accuracy: who is surely below it is named in every report")
    expected: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        description="Accuracy of somebody new who may annotate, review, arbitrate"
    )
    reviewers: tuple[str, ...] = Field(default=(), description="Label Studio's numbers of reviewers' accounts")
    arbiters: tuple[str, ...] = Field(default=(), description="Label Studio's numbers of arbiters' accounts")

    @model_validator(mode="after")
    def _fits(self) -> Tiers:
        if self.first > self.most:
            raise ValueError("first must not exceed most")
        if set(self.expected) != {"annotate", "review", "arbitrate"}:
            raise ValueError("expected needs annotate, review and arbitrate, and nothing else")
        return self


class Annotation(Settings):
    url: str = Field(pattern=r"^https?://[^/]+", description="Address of the Label Studio server")
    project: str = Field(min_length=3, max_length=30, description="Title of the project there")
    template: Literal["category", "caption", "rating", "preference"] = Field(
        description="What people give: a picture's category, a better caption, how well both fit, the better answer"
    )
    batch: int = Field(ge=1, le=100_000, description="Samples that people are asked about at a time")
    worth: Fraction = Field(
        description="Labelling stops where all further labels are expected to add less accuracy (not of preferences)"
    )
    tiers: Tiers


class Serving(Settings):
    """The sampling defaults are also what evaluation, export and the checks of parity sample with."""

    host: str = Field(description="Address that the gateway listens at; all other programs listen on loopback")
    gateway_port: Port = Field(description="Port of the gateway")
    text_port: Port = Field(description="Port of the text line's first slot")
    text_b_port: Port = Field(description="Port of the text line's second slot, for a candidate")
    image_port: Port = Field(description="Port of the image line's first slot")
    image_b_port: Port = Field(description="Port of the image line's second slot, for a candidate")
    max_concurrency: Count = Field(description="Requests of each line in work at a time")
    max_queue: int = Field(ge=0, description="Requests of each line that wait at a time; more get a 429")
    request_timeout: Positive = Field(description="Time until an answer ends, the wait included, in seconds")
    recheck: Fraction = Field(description="Share of answers that PyTorch computes again, off the path of requests")
    image_max_batch: Count = Field(description="Pictures painted together")
    image_max_latency_ms: Count = Field(description="Time that batching may take until a request is refused, in ms")
    image_steps: int = Field(ge=1, le=1000, description="Denoising steps of a picture")
    image_guidance: float = Field(ge=0, le=50, description="Weight of the caption (classifier-free guidance)")
    text_max_prompt_tokens: Count | None = Field(
        description="Longest prompt, in tokens; a longer one gets a 400; null: what the model holds beside an answer"
    )
    text_max_new_tokens: Count = Field(description="Longest answer, in tokens")
    text_fallback: Literal["endpoint"] | None = Field(
        default=None,
        description="Who answers where the text line's champion does not: an endpoint that still runs beside it; "
        "prompts then leave this machine; null: nobody",
    )
    text_temperature: Temperature = Field(description="Temperature of sampling; 0 always takes the likeliest token")
    text_top_p: TopP = Field(
        description="Share of the probability, from the likeliest tokens down, that is sampled from"
    )


class Stack(Settings):
    """Ports on loopback; not 9090 and 9093, which Debian's services take."""

    prefect_port: Port = Field(description="Port of Prefect")
    mlflow_port: Port = Field(description="Port of MLflow")
    prometheus_port: Port = Field(description="Port of Prometheus")
    alertmanager_port: Port = Field(description="Port of Alertmanager")


class Events(Settings):
    url: str = Field(description="Database of events, releases, experiments and labels: SQLite or PostgreSQL, as a URL")


class Release(Settings):
    """How a candidate earns its users: in each state it needs requests and time, and to be shown no worse."""

    canary: bool = Field(description="Whether `atelier release start` puts a candidate on trial without being told to")
    shadow_share: Fraction = Field(description="Share of requests that a candidate answers too while nobody sees it")
    min_requests: Count = Field(description="Calls that each state needs")
    min_seconds: int = Field(ge=0, description="Time that each state needs, in seconds")
    max_failures: float = Field(gt=0, lt=1, description="Share of a candidate's calls that may fail")
    max_slow: float = Field(gt=0, lt=1, description="Share of a candidate's calls that may be slow")
    slow_seconds: dict[Line, Positive] = Field(description="Time from which a call of a line is slow, in seconds")
    max_less_liked: float = Field(
        gt=0,
        le=1,
        description="By how much less often than the champion it may be liked; A/B goes on until that is shown",
    )
    attribution_seconds: int = Field(
        gt=0,
        le=604_800,
        description="Time from a user's first request in a state within which reactions count, in seconds; "
        "well below min_seconds, as a user counts once it is over",
    )
    alpha: float = Field(gt=0, lt=1, description="Chance that a good candidate is found bad in one state")

    @model_validator(mode="after")
    def _every_line(self) -> Release:
        if missing := set(get_args(Line)) - set(self.slow_seconds):
            raise ValueError(f"slow_seconds has no {', '.join(sorted(missing))}")
        return self


class Feedback(Settings):
    """What users' reactions may carry."""

    max_age_days: Positive = Field(description="Days after its request from which a reaction is refused")
    segments: dict[Segment, Annotated[list[Segment], Field(min_length=1, max_length=20)]] = Field(
        max_length=4,
        description="Keys of a request's metadata that are stored, with their values; others become `other`",
    )


class Learning(Settings):
    """What users' reactions and annotators' labels may teach, and when it is worth a training."""

    window_days: Count = Field(description="Days after which a reaction teaches no longer")
    min_new: Count = Field(description="Pairs that must have changed before a training")
    min_likes: Count = Field(description="By how many more users an answer must be liked than disliked")
    seed: Seed = Field(description="Seed of who is held out")
    held_out_users: float = Field(
        ge=0, lt=1, description="Share of users who teach nothing: they test what was learned"
    )
    max_per_user: Count = Field(description="Judged answers of one user that teach at most")
    max_per_minute: Count = Field(description="Judged answers in a minute; with more a user counts as a program")
    uninformative: int = Field(ge=2, description="Judged answers, all alike, from which a user says nothing")
    label_batch: Count = Field(description="Prompts that wait for annotators at most, once users' prompts have moved")
    simulated: bool = Field(description="Whether a simulated audience teaches too, as in the proof")


class Audience(Settings):
    """The simulated audience of the demo."""

    users: Count = Field(description="Simulated users")
    requests_per_user: Count = Field(description="Requests of each user")
    seed: Seed = Field(description="Seed of users, phrases and likes")
    image_share: Fraction = Field(description="Share of requests for a picture")
    concurrency: Count = Field(description="Requests under way at a time")


class Monitor(Settings):
    """Windows, and what drift in them is measured on."""

    window_minutes: Count = Field(description="Length of a report's window, in minutes")
    min_rows: int = Field(ge=20, description="Values that a column needs on either side to be compared")
    sample_rows: int = Field(ge=20, le=10_000, description="Requests of a line that are looked at, at most")
    reference_minutes: Count = Field(
        description="Length of a deployment's first traffic, which later windows are compared with, in minutes"
    )
    persistence: Count = Field(description="Windows in a row in which a column moves before the advice is to act")
    keep: Count = Field(description="Reports that are kept")
    report: str = Field(description="Folder of the reports")
