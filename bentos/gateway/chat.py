"""`POST /v1/chat/completions`: OpenAI's chat in front of the text Bento, whole or as server-sent events."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from starlette.responses import JSONResponse, Response
from starlette.types import Send

from bentos.gateway.attempts import Attempt, answer, call_with_retry, shadow
from bentos.gateway.errors import ApiError, unexpected
from bentos.gateway.exchange import Exchange, Gateway, Result, identify, recorded
from bentos.gateway.recheck import sample, wants_recheck
from bentos.gateway.schemas import ChatRequest, check_model, max_new_tokens, parse, total_length
from bentos.gateway.traffic import Route
from bentos.gateway.upstream import Slot
from bentos.protocol import TextJob, Written
from components.config import Serving, Variant
from components.lines import TEXT
from monitoring import metrics

FEW_TOKENS = 8  # a client's own bound below it may cut an answer to nothing but white space


async def chat(gateway: Gateway, api_key: str, body: bytes, send: Send) -> Response | None:
    """The whole answer as a response, or None after the answer was streamed through `send`."""
    request = parse(ChatRequest, body)
    completion = _prepare(gateway, api_key, request)
    response = await (_EventStream(completion, send).respond() if request.stream else completion.respond())
    shadow(gateway, completion.exchange, completion.route, completion.write)
    return response


def _prepare(gateway: Gateway, api_key: str, request: ChatRequest) -> _Completion:
    """What is done for a request, and by whom; raises an `ApiError` for what is not served here."""
    check_model(request.model, TEXT.name)
    total_length(request)
    tokens = max_new_tokens(request, gateway.serving.text_max_new_tokens)
    chosen = {"temperature"} if request.temperature is not None else set[str]()
    caller = identify(gateway, TEXT.name, api_key, request.user, request.metadata, chosen)
    job = _job(request, caller.variant, gateway.serving, tokens)
    route = gateway.traffic.route(TEXT.name, caller.user_key)
    exchange = Exchange(
        line=TEXT.name,
        model=request.model,
        caller=caller,
        deployment=route.info.deployment,
        prompt=_prompt(request),
        prefix="chatcmpl",
        messages=len(request.messages) if request.messages[-1].role == "user" else 0,
        size=sum(len(message.content) for message in request.messages).bit_length(),
    )
    return _Completion(gateway, exchange, route, job, request.wants_usage)


def _job(request: ChatRequest, variant: Variant | None, serving: Serving, tokens: int) -> TextJob:
    temperature, top_p = sampling(request, variant, serving)
    return TextJob(
        messages=[("system" if m.role == "developer" else m.role, m.content) for m in request.messages],
        max_new_tokens=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=secrets.randbits(32) if request.seed is None else request.seed % 2**32,
        adapter=variant.adapter if variant and variant.adapter else "",
    )


def sampling(request: ChatRequest, variant: Variant | None, serving: Serving) -> tuple[float, float]:
    """Temperature and top-p: the request's own, else those of the experiment's variant, else the line's defaults."""
    chosen = (request.temperature, variant.temperature if variant else None)
    temperature = next((value for value in chosen if value is not None), serving.text_temperature)
    return temperature, request.top_p or serving.text_top_p


def _prompt(request: ChatRequest) -> str:
    """What drift is measured on: what users wrote, without the system's words."""
    return "\n".join(m.content for m in request.messages if m.role == "user") or request.messages[-1].content


@dataclass(frozen=True)
class _Completion:
    """One chat request on its way: what is on record of it, whom it is sent to, and as which job."""

    gateway: Gateway
    exchange: Exchange
    route: Route
    job: TextJob
    wants_usage: bool

    async def respond(self) -> Response:
        """The whole answer at once."""
        async with recorded(self.gateway, self.exchange) as result:
            written = await answer(self.gateway, self.exchange, self.route, self.write)
            self.fill(result, written)
        message = {"role": "assistant", "content": written.text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": written.finish_reason, "logprobs": None}
        document = self.document("chat.completion", [choice]) | {"usage": usage(written)}
        return JSONResponse(document, headers=self.exchange.headers(written.deployment))

    @property
    def rechecked(self) -> bool:
        return wants_recheck(self.gateway, self.exchange)

    async def write(self, attempt: Attempt) -> Written:
        share, traced = self.exchange.caller.share, self.rechecked
        ask = partial(self.gateway.upstream.write, job=self.job, share=share, traced=traced)
        written = await call_with_retry(self.gateway, attempt, ask)
        attempt.require(self.says_something(written))
        return written

    def document(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        """An object of OpenAI's API about this completion."""
        return {
            "id": self.exchange.id,
            "object": kind,
            "created": int(self.exchange.created),
            "model": TEXT.model,
            "choices": choices,
        }

    def fill(self, result: Result, written: Written) -> None:
        result.cut = self._cut(written)
        result.answered_by = written.deployment
        result.output, result.batch_size, result.adapter = written.text, written.batch_size, written.adapter
        result.prompt_tokens, result.completion_tokens = written.prompt_tokens, written.completion_tokens
        if written.trace:  # else the Bento is of a version before
            sample(self.gateway, self.exchange, written.deployment, self.job, written.trace, written.adapter)

    def says_something(self, written: Written) -> bool:
        return bool(written.text.strip()) or self._cut(written)

    def _cut(self, written: Written) -> bool:
        """Whether an answer ended at its client's own bound: what is not in it is then no fault of the model."""
        return written.finish_reason == "length" and self.job.max_new_tokens < FEW_TOKENS


def usage(written: Written) -> dict[str, int]:
    read, wrote = written.prompt_tokens, written.completion_tokens
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


class _EventStream:
    """Answers a chat request as server-sent events; a failure after the first byte becomes an event, as OpenAI's do."""

    def __init__(self, completion: _Completion, send: Send) -> None:
        self._completion, self._send = completion, send
        self._started = False

    async def respond(self) -> None:
        completion = self._completion
        try:
            async with recorded(completion.gateway, completion.exchange) as result:
                relay = partial(self._relay, result)
                written = await answer(completion.gateway, completion.exchange, completion.route, relay)
        except Exception as error:
            if not self._started:
                raise
            failure = error if isinstance(error, ApiError) else unexpected()
            await self._event(failure.body())
            return await self._end()
        await self._chunk({}, written.finish_reason)
        if completion.wants_usage:
            await self._event(self._document([]) | {"usage": usage(written)})
        await self._end()

    async def _relay(self, result: Result, attempt: Attempt) -> Written:
        return await call_with_retry(self._completion.gateway, attempt, partial(self._pass_on, result, attempt))

    async def _pass_on(self, result: Result, attempt: Attempt, slot: Slot) -> Written:
        """Pass the text Bento's stream on; a candidate's begins with its first words, as until then the champion can
        take over."""
        completion, deployment = self._completion, ""
        job, share, traced = completion.job, completion.exchange.caller.share, completion.rechecked
        async with aclosing(completion.gateway.upstream.stream(slot, job, share, traced)) as lines:
            async for line in lines:
                if line.deployment is not None:
                    deployment = line.deployment
                if attempt.on_trial and not attempt.begun and (line.piece or line.result):
                    attempt.require(bool(line.piece or (line.result and completion.says_something(line.result))))
                if not attempt.begun and (line.piece or line.result or not attempt.on_trial):
                    await self._begin(result, attempt, deployment)
                if line.piece is not None and attempt.begun:
                    await self._piece(result, line.piece)
                if line.result is not None:
                    attempt.bad = not completion.says_something(line.result)
                    completion.fill(result, line.result)
                    return line.result
        raise unexpected()

    async def _begin(self, result: Result, attempt: Attempt, deployment: str) -> None:
        result.answered_by = deployment
        attempt.begin()
        headers = self._completion.exchange.headers(deployment)
        headers |= {"content-type": "text/event-stream", "cache-control": "no-store"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._chunk({"role": "assistant", "content": ""})

    async def _piece(self, result: Result, piece: str) -> None:
        if not result.output:
            seconds = time.monotonic() - self._completion.exchange.began
            metrics.FIRST_TOKEN_SECONDS.labels(TEXT.name).observe(seconds)
        result.output += piece  # so that a cancelled answer is on record as far as it went
        await self._chunk({"content": piece})

    def _document(self, choices: list[dict[str, object]]) -> dict[str, object]:
        return self._completion.document("chat.completion.chunk", choices)

    async def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> None:
        choice: dict[str, object] = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        await self._event(self._document([choice]))

    async def _event(self, document: dict[str, object]) -> None:
        data = f"data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
