"""What the gateway and the model Bentos say to each other over HTTP (JSON; streams are JSON lines).

Knows no engine and no server. Bounds are repeated here although the gateway checks them first: a model Bento answers
whoever reaches its port.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from bentoml.exceptions import BentoMLException
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from components.artifact import ArtifactError, read_manifest, verify
from components.chat import Role
from components.config import Line
from components.config.base import Digest, Seed, Temperature, TopP
from components.paths import ADAPTERS, ARTIFACTS

MAX_PROMPT = 4000  # characters of all messages together, or of a picture's prompt
MAX_MESSAGES = 100
MAX_SIDE = 512  # pixels that pictures are enlarged to
LARGEST_SIDE = 2048  # pixels, of whatever model
REQUEST_ID = "x-request-id"  # header that names the request of a client, in answers and in calls to model Bentos
JOB_ID = "x-job-id"  # request header by which the image Bento finds the work of a caller that has gone

# Request header that says of whom a text job is: a key, a slash and a user of it, both hashed. It is no field of the
# job, as a Bento of the version before would refuse it.
SHARE = "x-share"
# Request header that asks for a text answer's `Trace`, for it is to be computed again; no field of the job likewise.
TRACE = "x-trace"

Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT)]


class Message(BaseModel):
    """Base of all messages: closed, and no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Answer(Message):
    """Base of what a Bento answers; `later`: fields that gateways of the versions before know not, sent where they say
    something."""

    later: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, every: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in every(self).items() if name not in self.later or value}


class ImageJob(Message):
    """One picture; `side` in pixels is one of `sides` (None = the model's own)."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    prompt: Prompt
    seed: Seed
    steps: Annotated[int, Field(ge=1, le=1000)]
    guidance: Annotated[float, Field(ge=0, le=50)]
    side: Annotated[int, Field(ge=1, le=LARGEST_SIDE)] | None = None


class Picture(Answer):
    """A painted picture as base64 of a PNG, empty where the job was cancelled; how many were painted together.

    `not_finite`: the model's output was NaN or infinite, and there is no picture. `read`: what of the prompt the model
    read, where that was not all of it.
    """

    later = frozenset({"read"})

    png: str
    not_finite: bool = False
    batch_size: int
    deployment: str
    read: str = ""


class TextJob(Message):
    """One completion of a chat; `temperature` 0 is greedy. `adapter`: digest of the one to write with, if any."""

    messages: Annotated[list[tuple[Role, Prompt]], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    temperature: Temperature
    top_p: TopP = 1.0
    seed: Seed = 0
    adapter: Digest | Literal[""] = ""


class Trace(Message):
    """What the engine read and wrote, as tokens, and the log-probability (nats, temperature 1) of each written one."""

    prompt: list[int]
    tokens: list[int]
    log_probs: list[float]


class Written(Answer):
    """A finished completion; `batch_size` is how many were being written when this one was admitted.

    `adapter`: digest of the one that it was written with; empty where the job named none, and where the one that it
    named is not loaded, or was made for another model. `trace`: where it was asked for.
    """

    later = frozenset({"adapter", "trace"})

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    batch_size: int
    deployment: str
    adapter: str = ""
    trace: Trace | None = None


class TextLine(Message):
    """One line of a text stream: the deployment first (`too_long` or `refused` instead of it where the engine cannot
    take the request), then pieces, then the whole result or what ended it. `unanswered`: the HTTP status that the
    whole answer would have had.

    A stream without any of these was cut: BentoML ends a failed stream as if it were complete.
    """

    deployment: str | None = None
    piece: str | None = None
    result: Written | None = None
    error: str | None = None
    too_long: str | None = None
    refused: str | None = None
    unanswered: int | None = None


class Info(Answer):
    """What a model Bento serves: `side` is the native size of its pictures in pixels (image line only).

    `multiple`: it can paint smaller ones too, whose sides are multiples of this.
    `endpoint`: it asks an API.
    """

    later = frozenset({"multiple", "endpoint"})

    line: Literal["text", "image"]
    deployment: str
    digest: str
    side: int | None = None
    multiple: int | None = None
    endpoint: bool = False


def sides(native: int, multiple: int | None) -> list[int]:
    """The sides in pixels that one may ask for: enlarged multiples of the model's own, and what it paints itself.

    That is from half its own: models of diffusion paint a thing twice on more than what they were trained on, and
    parts of it on much less.
    """
    enlarged = range(native, max(MAX_SIDE, native) + 1, native)
    painted = range(-(-native // 2 // multiple) * multiple, native, multiple) if multiple else ()
    return sorted({*painted, *enlarged})


def artifact_folder(line: Line, own: Path | None = None) -> Path:
    """The artifact a model Bento serves: ATELIER_<LINE>_ARTIFACT, or its `own` (by default the package) in the tree
    it runs in."""
    return Path(os.environ.get(f"ATELIER_{line.upper()}_ARTIFACT") or own or ARTIFACTS / line / "package")


def adapters_folder() -> Path:
    """Where the adapters of the text line lie, each in a folder that its digest names."""
    return Path(os.environ.get("ATELIER_ADAPTERS") or ADAPTERS)


def require_artifact(line: Line, own: Path | None = None) -> None:
    """Refuse to start without an artifact of the line; raises `BentoMLException`, which ends the server in one line.

    Run before any worker starts: BentoML would start a failing worker again and again.
    """
    folder = artifact_folder(line, own)
    try:
        packaged = read_manifest(folder).line
    except ArtifactError as error:
        raise BentoMLException(f"ATELIER_{line.upper()}_ARTIFACT: {error}") from error
    if packaged != line:
        raise BentoMLException(f"{folder} is an artifact of the {packaged} line, not of {line}")


def describe(line: Line, folder: Path, side: int | None = None, multiple: int | None = None) -> Info:
    """What is in the folder, once verified (else `ArtifactError`). Without ATELIER_DEPLOYMENT its digest names it."""
    digest = verify(folder).digest
    return Info(
        line=line,
        deployment=os.environ.get("ATELIER_DEPLOYMENT") or f"{line}-{digest[:12]}",
        digest=digest,
        side=side,
        multiple=multiple,
    )
