"""`POST /v1/chat/completions`: OpenAI's chat in front of the text Bento, whole or as server-sent events."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import aclosing
from functools import partial

from starlette.responses import JSONResponse, Response
from starlette.types import Send

from bentos.gateway.errors import ApiError, unexpected
from bentos.gateway.exchange import Exchange, Gateway, Result, assigned, recorded, segments, share_of
from bentos.gateway.retries import asked
from bentos.gateway.schemas import MODELS, ChatRequest, check_model, max_new_tokens, parse, total_length
from bentos.gateway.traffic import Route
from bentos.gateway.trial import Attempt, answer, shadow
from bentos.gateway.upstream import Slot
from bentos.protocol import TextJob, Written
from components.config import Serving, Variant
from monitoring import metrics

FEW_TOKENS = 8  # a client's own bound below it may cut an answer to nothing but white space


async def chat(gateway: Gateway, api_key: str, body: bytes, send: Send) -> Response | None:
    """The whole answer as a response, or None after the answer was streamed through `send`."""
    request = parse(ChatRequest, body)
    check_model(request.model, "text")
    total_length(request)
    tokens = max_new_tokens(request, gateway.serving.text_max_new_tokens)
    user, kept = gateway.keys.user_key(request.user, api_key), segments(gateway.feedback, request.metadata)
    chosen = {"temperature"} if request.temperature is not None else set[str]()
    assignment, variant = assigned(gateway, "text", user, kept, chosen)
    adapter = variant.adapter if variant and variant.adapter else ""
    job = _job(request, *sampling(request, variant, gateway.serving), tokens, adapter)
    route = gateway.traffic.route("text", user)
    count, asks = _counted(request), route.info.deployment
    size = sum(len(message.content) for message in request.messages).bit_length()
    share = share_of(gateway, api_key, user)
    exchange = Exchange(
        "text", request.model, user, asks, _prompt(request), assignment, "chatcmpl", kept, count, size, share
    )
    response = None
    if request.stream:
        usage = bool(request.stream_options and request.stream_options.include_usage)
        await _stream(gateway, exchange, route, job, send, usage)
    else:
        response = await _whole(gateway, exchange, route, job)
    shadow(gateway, exchange, route, partial(_write, gateway, exchange, job))
    return response


def sampling(request: ChatRequest, variant: Variant | None, serving: Serving) -> tuple[float, float]:
    """Temperature and top-p: the request's own, else those of the experiment's variant, else the line's defaults."""
    chosen = (request.temperature, variant.temperature if variant else None)
    temperature = next((value for value in chosen if value is not None), serving.text_temperature)
    return temperature, request.top_p or serving.text_top_p


def _counted(request: ChatRequest) -> int:
    """How many messages the answer rests on; 0 where the last is not the user's."""
    return len(request.messages) if request.messages[-1].role == "user" else 0


def _prompt(request: ChatRequest) -> str:
    """What drift is measured on: what users wrote, without the system's words."""
    return "\n".join(m.content for m in request.messages if m.role == "user") or request.messages[-1].content


def _job(request: ChatRequest, temperature: float, top_p: float, tokens: int, adapter: str) -> TextJob:
    seed = secrets.randbits(32) if request.seed is None else request.seed % 2**32
    return TextJob(
        messages=[("system" if m.role == "developer" else m.role, m.content) for m in request.messages],
        max_new_tokens=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        adapter=adapter,
    )


def _fill(result: Result, written: Written, cut: bool) -> None:
    result.cut = cut
    result.deployment = written.deployment
    result.output, result.batch_size, result.adapter = written.text, written.batch_size, written.adapter
    result.prompt_tokens, result.completion_tokens = written.prompt_tokens, written.completion_tokens


def _usage(written: Written) -> dict[str, int]:
    read, wrote = written.prompt_tokens, written.completion_tokens
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


async def _write(gateway: Gateway, exchange: Exchange, job: TextJob, attempt: Attempt) -> Written:
    written = await asked(gateway, attempt, partial(gateway.upstream.write, job=job, share=exchange.share))
    attempt.require(_says_something(job, written))
    return written


def _cut(job: TextJob, written: Written) -> bool:
    """Whether an answer ended at its client's own bound: what is not in it is then no fault of the model."""
    return written.finish_reason == "length" and job.max_new_tokens < FEW_TOKENS


def _says_something(job: TextJob, written: Written) -> bool:
    return bool(written.text.strip()) or _cut(job, written)


async def _whole(gateway: Gateway, exchange: Exchange, route: Route, job: TextJob) -> Response:
    async with recorded(gateway, exchange) as result:
        written = await answer(gateway, exchange, route, partial(_write, gateway, exchange, job))
        _fill(result, written, _cut(job, written))
    message = {"role": "assistant", "content": written.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": written.finish_reason, "logprobs": None}
    completion = {
        "id": exchange.id,
        "object": "chat.completion",
        "created": int(exchange.created),
        "model": MODELS["text"],
        "choices": [choice],
        "usage": _usage(written),
    }
    return JSONResponse(completion, headers=exchange.headers(written.deployment))


async def _stream(gateway: Gateway, exchange: Exchange, route: Route, job: TextJob, send: Send, usage: bool) -> None:
    """Server-sent events; a failure after the first byte becomes an error event, as OpenAI sends it."""
    events = _Events(exchange, send)
    try:
        async with recorded(gateway, exchange) as result:
            written = await answer(gateway, exchange, route, partial(_relay, gateway, job, events, result))
    except Exception as error:
        if not events.started:
            raise
        failure = error if isinstance(error, ApiError) else unexpected()
        await events.send(failure.body())
        await events.end()
        return
    await events.chunk({}, written.finish_reason)
    if usage:
        await events.send(events.frame([]) | {"usage": _usage(written)})
    await events.end()


async def _relay(gateway: Gateway, job: TextJob, events: _Events, result: Result, attempt: Attempt) -> Written:
    return await asked(gateway, attempt, partial(_pass_on, gateway, job, events, result, attempt))


async def _pass_on(
    gateway: Gateway, job: TextJob, events: _Events, result: Result, attempt: Attempt, slot: Slot
) -> Written:
    """Pass a stream on. A candidate's begins with its first words, as until then the champion can take over."""
    held = ""
    async with aclosing(gateway.upstream.stream(slot, job, events.exchange.share)) as lines:
        async for line in lines:
            if held and (line.piece or line.result):
                attempt.require(line.piece is not None or bool(line.result and _says_something(job, line.result)))
                result.deployment = held
                attempt.begin()
                await events.start(held)
                held = ""
            if line.deployment is not None and attempt.on_trial:
                held = line.deployment
            elif line.deployment is not None:
                result.deployment = line.deployment
                attempt.begin()
                await events.start(line.deployment)
            elif line.piece is not None:
                if not result.output:
                    metrics.FIRST_TOKEN_SECONDS.labels("text").observe(time.monotonic() - events.exchange.began)
                result.output += line.piece  # so that a cancelled answer is on record as far as it went
                await events.chunk({"content": line.piece})
            elif line.result is not None:
                attempt.bad = not _says_something(job, line.result)
                _fill(result, line.result, _cut(job, line.result))
                return line.result
    raise unexpected()


class _Events:
    """Writes one answer as server-sent events."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self.exchange, self._send, self.started = exchange, send, False

    async def start(self, deployment: str) -> None:
        headers = self.exchange.headers(deployment) | {"content-type": "text/event-stream", "cache-control": "no-store"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self.chunk({"role": "assistant", "content": ""})

    def frame(self, choices: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": self.exchange.id,
            "object": "chat.completion.chunk",
            "created": int(self.exchange.created),
            "model": MODELS["text"],
            "choices": choices,
        }

    async def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> None:
        await self.send(self.frame([{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}]))

    async def send(self, document: dict[str, object]) -> None:
        data = f"data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
