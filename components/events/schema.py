"""Events: what happened to a request, as frozen rows, and the database tables that hold them.

Append-only. `Accepted` is written before the first byte of an answer, `Finished` before its end, `Feedback` whenever a
user reacts. A response's id is its `request_id`. Knows no database connection and no clock: times are epoch seconds
given by the caller.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, false, func

Kind = Literal["like", "click", "save", "regenerate", "dwell"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LIKE: Kind = "like"
OTHER = "other"  # a segment's value that the parameters do not list


class Outcome(StrEnum):
    """How a request ended; `LOST`: the gateway that worked on it died before it could say."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    LOST = "lost"


class CallKind(StrEnum):
    """Which call to a candidate is on record.

    `SHADOW`: a copy of a request. `FAILURE`: the champion answered the request instead. `BREAKER`: with that call a
    gateway stopped asking the candidate; its row is named by the release, so that of several gateways one row tells.
    """

    SHADOW = "shadow"
    FAILURE = "failure"
    BREAKER = "breaker"


class Reason(StrEnum):
    """Why a call to a candidate failed; other errors of the API are told by their code.

    `SLOW`: far above the champion. `REFUSED`: by the model, as too long, so that the champion decides whether the
    request or the candidate is at fault. `BOTH`: the champion failed at the request alike, which says nothing of
    either. `DISLIKED`: by users, which no single call shows.
    """

    SLOW = "slow"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    UNAVAILABLE = "model_unavailable"
    REFUSED = "refused"
    BAD_OUTPUT = "bad_output"
    BOTH = "both"
    DISLIKED = "disliked"
    ERROR = "error"


def storable(text: str) -> str:
    """`text` without what databases refuse (NUL, lone surrogates): one odd prompt must not fail a whole commit."""
    return text.replace("\x00", "\ufffd").encode("utf-8", errors="replace").decode("utf-8")


Stored = Annotated[str, AfterValidator(storable)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]
Duration = Annotated[float, Field(ge=0)]


class Event(BaseModel):
    """Base of every row: NaN, unknown fields and coerced types are refused before they reach the queue."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    request_id: Name
    time: float


class Accepted(Event):
    """A request was admitted; outside an experiment `experiment` and `variant` are empty and `propensity` is 1.

    `segments`: of the user, such as plan=paid, as a JSON object. `messages`: how many the caller sent, the
    last of them the user's; with more than one the prompt alone does not explain the answer. 0 where nobody counted.
    """

    user_key: Name
    line: Literal["text", "image"]
    deployment: Name
    model: Name
    experiment: Stored = ""
    variant: Stored = ""
    propensity: Annotated[float, Field(gt=0, le=1)] = 1.0
    segments: Stored = "{}"
    messages: Annotated[int, Field(ge=0)] = 1


class Finished(Event):
    """How a request ended. `batch_size` is 0 where unknown; `output` is text, or a summary of a picture.

    `adapter`: digest of the one that wrote it on top of the deployment's model, empty for none. `answered_by`: the
    deployment that answered; where a candidate fails it is another than was asked. Empty where none began to answer.
    `cut`: it ended at its client's own bound, so that a blank output says nothing about who wrote it.
    """

    latency_s: Duration
    outcome: Annotated[Outcome, Field(strict=False)]
    status: int
    batch_size: Annotated[int, Field(ge=0)] = 0
    prompt: Stored = ""
    output: Stored = ""
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    completion_tokens: Annotated[int, Field(ge=0)] = 0
    adapter: Stored = ""
    answered_by: Stored = ""
    cut: bool = False


class Feedback(Event):
    """A user's reaction, such as kind `like` with value 1 or 0; the same idempotency `key` is stored once.

    `time`: when they reacted. `received`: by the gateway's clock, 0 where that is not known. `clock`: what was wrong
    with the time that the client told: it lay `ahead` of the gateway's, or `before` the request; empty for nothing.
    """

    key: Annotated[str, Field(min_length=1, max_length=300), AfterValidator(storable)]
    user_key: Name
    kind: Name
    value: float
    received: float = 0.0
    clock: Literal["", "ahead", "before"] = ""


class CandidateCall(Event):
    """A call to a candidate whose answer reached nobody; `reason` is why it failed, empty where it did not."""

    kind: Annotated[CallKind, Field(strict=False)]
    line: Literal["text", "image"]
    deployment: Name
    reason: Stored
    latency_s: Duration


class Sampled(Event):
    """A good answer that is to be computed again: all that it takes, as JSON, and what was served.

    It holds more of a person's words than `Finished` does, so `job` and `answer` are emptied once it has been judged.
    `adapter`: as in `Finished`.
    """

    line: Literal["text", "image"]
    deployment: Name
    adapter: Stored = ""
    job: Stored
    answer: Stored


class Deployment(BaseModel):
    """Which bytes a deployment id stands for: package digest, MLflow model and version, Bento tag, time it was made.

    `price`: what its provider takes for a million tokens, as a JSON object of `input`, `output` and `currency`; empty
    where that is not known, or it is a model of one's own.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    deployment: Name
    line: Literal["text", "image"]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    model: Stored
    version: Stored
    bento: Stored
    time: float
    price: Stored = "{}"


def hash_user(user: str, secret: str) -> str:
    """Key of a user in events and experiments: one-way, and not guessable without the `secret`."""
    return hashlib.blake2b(user.encode("utf-8", "replace"), key=secret.encode()[:64], digest_size=16).hexdigest()


METADATA = MetaData()


def text_column(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


ACCEPTED = Table(
    "accepted",
    METADATA,
    Column("request_id", String(200), primary_key=True),
    Column("time", Float(53), nullable=False, index=True),
    *(text_column(name) for name in ("user_key", "line", "deployment", "model", "experiment", "variant")),
    Column("propensity", Float(53), nullable=False),
    Column("segments", Text, nullable=False, server_default="{}"),
    Column("messages", Integer, nullable=False, server_default="0"),
)
FINISHED = Table(
    "finished",
    METADATA,
    Column("request_id", String(200), primary_key=True),
    Column("time", Float(53), nullable=False, index=True),
    Column("latency_s", Float(53), nullable=False),
    text_column("outcome"),
    Column("status", Integer, nullable=False),
    Column("batch_size", Integer, nullable=False),
    *(text_column(name) for name in ("prompt", "output")),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("adapter", Text, nullable=False, server_default=""),
    Column("answered_by", Text, nullable=False, server_default=""),
    Column("cut", Boolean, nullable=False, server_default=false()),
)
# Whose output a request's is, and else who was asked; of a comparison's users what counts is who was asked.
ANSWERED_BY = func.coalesce(func.nullif(FINISHED.c.answered_by, ""), ACCEPTED.c.deployment)
FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("key", String(300), primary_key=True),
    Column("request_id", String(200), nullable=False, index=True),
    Column("time", Float(53), nullable=False, index=True),
    *(text_column(name) for name in ("user_key", "kind")),
    Column("value", Float(53), nullable=False),
    Column("received", Float(53), nullable=False, server_default="0"),
    Column("clock", Text, nullable=False, server_default=""),
)
# Of a user's reactions of one kind to one response, the last in this order counts.
NEWEST = (FEEDBACK.c.time, FEEDBACK.c.received, FEEDBACK.c.key)
TRIALS = Table(
    "trials",
    METADATA,
    Column("request_id", String(250), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("time", Float(53), nullable=False, index=True),
    *(text_column(name) for name in ("line", "deployment", "reason")),
    Column("latency_s", Float(53), nullable=False),
)
# `verdict`: empty while it waits; `judged`: when that was (epoch s); `measured`: what it rests on, as JSON.
RECHECKS = Table(
    "rechecks",
    METADATA,
    Column("request_id", String(200), primary_key=True),
    Column("time", Float(53), nullable=False, index=True),
    *(text_column(name) for name in ("line", "deployment", "adapter", "job", "answer")),
    Column("verdict", String(20), nullable=False, server_default="", index=True),
    Column("judged", Float(53), nullable=False, server_default="0"),
    Column("measured", Text, nullable=False, server_default="{}"),
)
DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("deployment", String(200), primary_key=True),
    *(text_column(name) for name in ("line", "digest", "model", "version", "bento")),
    Column("time", Float(53), nullable=False, index=True),
    Column("price", Text, nullable=False, server_default="{}"),
)
LABEL_TASKS = Table(
    "label_tasks",
    METADATA,
    Column("task", String(32), primary_key=True),
    *(text_column(name) for name in ("phrase", "written", "why")),
    Column("time", Float(53), nullable=False, index=True),
)
COMPARISONS = Table(
    "comparisons",
    METADATA,
    Column("sample", String(32), primary_key=True),
    *(text_column(name) for name in ("phrase", "left", "right", "left_origin", "right_origin")),
)
LABEL_ANSWERS = Table(
    "label_answers",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("task", String(32), ForeignKey("label_tasks.task"), nullable=False, index=True),
    *(text_column(name) for name in ("completion", "annotator")),
    Column("time", Float(53), nullable=False),
)
