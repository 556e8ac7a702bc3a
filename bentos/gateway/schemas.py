"""What a client may send, in OpenAI's terms, checked strictly.

A parameter that is unknown or would be ignored is refused by name: a client must not believe that `tools` or `stop` had
an effect. Values that mean "off" are accepted, because common clients send them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from bentos.gateway.errors import ApiError
from bentos.protocol import MAX_MESSAGES, MAX_PROMPT, sides
from components.config import Line
from components.config.base import Temperature, TopP
from components.events.schema import Kind
from components.lines import IMAGE, LINES

MAX_PICTURES = 10
MAX_DWELL_S = 86_400.0

BodyT = TypeVar("BodyT", bound="Body")
Text = Annotated[str, Field(max_length=MAX_PROMPT)]
OpenAISeed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
User = Annotated[str, Field(min_length=1, max_length=200)]
# OpenAI's own bounds.
MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
Metadata = Annotated[dict[MetadataKey, Annotated[str, Field(max_length=512)]], Field(max_length=16)]


class Body(BaseModel):
    """Base of all bodies: closed, nothing coerced, no NaN."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _joined(content: Any) -> Any:
    """OpenAI's list of text parts as one string; anything else is left for the string check."""
    if isinstance(content, list):
        texts = [p.get("text") for p in content if isinstance(p, dict) and p.get("type") == "text"]
        strings = [text for text in texts if isinstance(text, str)]
        if len(strings) < len(content):
            raise ValueError("only parts of type `text` are supported")
        return "\n".join(strings)
    return content


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Content = Annotated[Text, AfterValidator(_not_blank), BeforeValidator(_joined)]
Prompt = Annotated[Text, AfterValidator(_not_blank)]


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: str | None = None


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class TextFormat(Body):
    type: Literal["text"]


class ChatRequest(Body):
    """Body of `POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: OpenAISeed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: User | None = None
    n: Literal[1] | None = None
    stop: None = None
    logprobs: Literal[False] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    response_format: TextFormat | None = None
    metadata: Metadata | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the last event of a stream is to say how many tokens there were."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ImagesRequest(Body):
    """Body of `POST /v1/images/generations`; `size` is `auto` (the model's own) or one of `sides`, as `256x256`."""

    prompt: Prompt
    model: str = IMAGE.model
    n: Annotated[int, Field(ge=1, le=MAX_PICTURES)] | None = None
    size: str | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    seed: OpenAISeed | None = None
    user: User | None = None
    metadata: Metadata | None = None  # as chat has it: OpenAI's pictures have none


class FeedbackRequest(Body):
    """Body of `POST /v1/feedback`: a reaction to the response `request_id`; the same idempotency `key` counts once.

    `value`: seconds of `dwell`, up to a day; of the other kinds 1 for yes and 0 for no, or for taken back. `time`: when
    the user reacted, in epoch seconds by the client's clock, for clients that send later.
    """

    request_id: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Kind
    value: Annotated[float, Field(ge=0, le=MAX_DWELL_S)]
    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    user: User | None = None
    time: Annotated[float, Field(ge=0)] | None = None

    @field_validator("value")
    @classmethod
    def _yes_or_no(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("kind", "dwell") != "dwell" and value not in (0, 1):
            raise ValueError(f"of a {info.data['kind']} must be 0 or 1 (got {value:g})")
        return value


def parse(model: type[BodyT], body: bytes) -> BodyT:
    """The checked body; raises a 400 `ApiError` that names the first wrong parameter."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(map(str, first["loc"])) or None
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {message}", code="invalid_json")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{param}: unknown or unsupported parameter", param=param, code="unknown_parameter")
    return ApiError(400, f"{param or 'body'}: {message}", param=param, code=first["type"])


def check_model(model: str, line: Line) -> None:
    """Raise OpenAI's 404 unless `model` is what this endpoint serves."""
    served = LINES[line].model
    if model != served:
        message = f"the model `{model[:100]}` does not exist here; this endpoint serves `{served}`"
        raise ApiError(404, message, param="model", code="model_not_found")


def max_new_tokens(request: ChatRequest, most: int) -> int:
    """How many tokens to write at most; raises a 400 `ApiError` beyond `most`."""
    tokens = request.max_completion_tokens or request.max_tokens or most
    if tokens > most:
        raise ApiError(400, f"max_tokens: at most {most} here (got {tokens})", param="max_tokens", code="too_large")
    return tokens


def total_length(request: ChatRequest) -> None:
    """Raise a 400 `ApiError` where the messages together are longer than a prompt may be."""
    length = sum(len(message.content) for message in request.messages)
    if length > MAX_PROMPT:
        message = f"messages: {length} characters together, at most {MAX_PROMPT}"
        raise ApiError(400, message, param="messages", code="string_too_long")


def side_of(size: str | None, native: int, multiple: int | None = None) -> int | None:
    """Pixels of a side for OpenAI's `size`, None for the model's own; raises a 400 `ApiError`."""
    if size is None or size == "auto":
        return None
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", size)
    side = int(match[1]) if match and match[1] == match[2] else 0
    if side not in (known := sides(native, multiple)):
        sizes = ", ".join(f"{s}x{s}" for s in known)
        raise ApiError(400, f"size: `{size[:20]}` is not one of auto, {sizes}", param="size", code="invalid_size")
    return side
