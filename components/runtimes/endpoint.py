"""A text runtime that has no model: it asks an OpenAI-compatible endpoint, and streams what that writes.

What is passed on has the shape of a chat completion, and ends as one; all else is an error that names what came
instead. Before the first piece a failure that may pass is tried again, a few times and no longer than the endpoint
asks; a caller who leaves ends the call. The key goes to the endpoint's own address and nowhere else: redirects are not
followed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from components.artifact import ArtifactError, Manifest
from components.endpoint_keys import KEY, key_of
from components.runtimes.base import PromptTooLongError, RequestRefusedError, TextRequest, TextResult

KIND = "endpoint"  # of an artifact that says where the model is, and holds none
ANSWERS = "answers.json"  # in it: what was answered about held-out phrases, by conversation
CONNECT_SECONDS = 5.0
PAUSES = (0.5, 1.5)  # seconds before the second and the third try, where the endpoint names none
LONGEST_PAUSE = 10.0  # seconds: who is to come back later than that is told so
PASSING = {408, 429, 500, 502, 503, 504}  # HTTP statuses that another try may change
MOST_CHARACTERS = 1_000_000  # of an answer: an endpoint may ignore the bound on its tokens
log = logging.getLogger("bentoml.text")


class EndpointError(RuntimeError):
    """The endpoint did not answer; `status` is what that makes of our own answer.

    429: it is overloaded; 504: it took too long; 502: it cannot be reached, refuses us, or is no such API.
    """

    def __init__(self, message: str, status: Literal[429, 502, 504] = 502) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Endpoint:
    """Where the model is and how it is asked; `omit`: parameters that are not sent, by their names in the API."""

    url: str
    model: str
    system_prompt: str = ""
    omit: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Endpoint:
        """What an artifact says; raises `ArtifactError` where it is none of an endpoint."""
        if manifest.kind != KIND:
            raise ArtifactError(f"a {manifest.kind} is no endpoint")
        given = manifest.parameters
        return cls(given["url"], given["model"], given["system_prompt"], tuple(given["omit"]))

    def body(self, request: TextRequest) -> dict[str, Any]:
        """The request in the API's words; the system prompt leads where the conversation brings none."""
        messages = [{"role": role, "content": content} for role, content in request.messages]
        if self.system_prompt and all(message["role"] != "system" for message in messages):
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        tokens = "max_completion_tokens" if "max_tokens" in self.omit else "max_tokens"
        every = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            tokens: request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        return {name: value for name, value in every.items() if name not in self.omit}


class _Delta(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Delta
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Error(BaseModel):
    message: str = ""
    code: str | int | None = None


class _Chunk(BaseModel):
    """One event of a stream; what else an endpoint says in it is ignored."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Error | str | None = None


class EndpointText:
    """Writes text by asking; `timeout` bounds a request in seconds, waits between tries included. Close it at the end.

    Its connections belong to the event loop of the first request.
    """

    def __init__(self, endpoint: Endpoint, key: Callable[[], str], timeout: float) -> None:
        self._endpoint, self._read_key, self._timeout = endpoint, key, timeout
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def with_kept_key(cls, endpoint: Endpoint, timeout: float) -> EndpointText:
        """A key that is kept anew is used from the next request on."""
        return cls(endpoint, partial(key_of, endpoint.url), timeout)

    @property
    def _key(self) -> str:
        return self._read_key()

    async def generate(self, requests: Sequence[TextRequest], at_a_time: int) -> list[TextResult]:
        """One result per request, in order; the first failure ends all."""
        places = asyncio.Semaphore(at_a_time)

        async def answer(request: TextRequest) -> TextResult:
            async with places:
                async for item in self.stream(request):
                    if isinstance(item, TextResult):
                        return item
            raise EndpointError("the stream ended without a result")

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer(request)) for request in requests]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def stream(self, request: TextRequest) -> AsyncGenerator[str | TextResult, None]:
        """Pieces as they come, then the result; token counts are 0 where the endpoint gives none.

        Raises `EndpointError`, and `RequestRefusedError` where the endpoint takes no such request.
        """
        text, finish, usage = "", "", _Usage(prompt_tokens=0, completion_tokens=0)
        async with self._answer(self._endpoint.body(request)) as response:
            async for data in _events(response):
                chunk = _chunk(data)
                if chunk.error is not None:
                    detail = chunk.error if isinstance(chunk.error, str) else chunk.error.message
                    raise EndpointError(f"the endpoint broke off: {self._shown(detail)}")
                usage = chunk.usage or usage
                for choice in (chunk.choices or [])[:1]:
                    if piece := choice.delta.content or "":
                        text += piece
                        yield piece
                    finish = choice.finish_reason or finish
                if len(text) > MOST_CHARACTERS:
                    raise EndpointError(f"the endpoint wrote over {MOST_CHARACTERS:,} characters")
        if finish not in ("stop", "length", "content_filter"):
            ended = f"with finish_reason {finish!r}" if finish else "without a finish_reason: it was cut off"
            raise EndpointError(f"the endpoint's stream ended {ended}")
        yield TextResult(text, usage.prompt_tokens, usage.completion_tokens, finish)

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    @asynccontextmanager
    async def _answer(self, body: Mapping[str, Any]) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """The stream that answers, after as many tries as that takes; errors in reading it are the endpoint's too."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            response = await self._try(body, deadline)
            try:
                yield response
            finally:
                response.release()  # closes a connection that has more to say, and with it the endpoint's work
        except TimeoutError as error:
            raise EndpointError(f"the endpoint did not answer within {self._timeout:g} s", 504) from error
        except (aiohttp.ClientError, ValueError) as error:
            if isinstance(error, RequestRefusedError):
                raise
            raise EndpointError(f"the endpoint's answer cannot be read: {error or type(error).__name__}") from error

    async def _try(self, body: Mapping[str, Any], deadline: float) -> aiohttp.ClientResponse:
        for pause in (*PAUSES, None):
            passing, asked = True, None
            try:
                response = await self._post(body, deadline)
            except aiohttp.ClientConnectionError as error:
                failure: EndpointError = EndpointError(f"the endpoint cannot be reached: {error}")
            else:
                if response.status == HTTPStatus.OK:
                    return response
                passing, asked = response.status in PASSING, _retry_after(response.headers.get("retry-after", ""))
                failure = await self._failure(response)
            left = deadline - asyncio.get_running_loop().time()
            wait = asked if asked is not None else (pause or 0) * random.uniform(0.8, 1.2)  # noqa: S311 - not all at once
            if not passing or pause is None or wait > min(LONGEST_PAUSE, left):
                raise failure
            log.warning("%s; another try in %.1f s", failure, wait)
            await asyncio.sleep(wait)
        raise AssertionError("the last try has returned or raised")

    async def _post(self, body: Mapping[str, Any], deadline: float) -> aiohttp.ClientResponse:
        self._session = self._session or aiohttp.ClientSession()
        left = max(deadline - asyncio.get_running_loop().time(), 0.001)
        key = self._key
        headers = {"accept": "text/event-stream"} | ({"authorization": f"Bearer {key}"} if key else {})
        return await self._session.post(
            f"{self._endpoint.url}/chat/completions",
            json=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=left, sock_connect=min(CONNECT_SECONDS, left)),
            proxy=_proxy(self._endpoint.url),
            allow_redirects=False,
        )

    async def _failure(self, response: aiohttp.ClientResponse) -> EndpointError:
        """What an answer of another status than 200 means; raises `RequestRefusedError` where it is the request's."""
        status = response.status
        async with response:
            raw = await response.content.read(65_536)
        said = _said(raw)
        words = f"the endpoint answers {status}: {self._shown(said.message)}"
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY):
            log.error("%s", words)
            too_long = said.code == "context_length_exceeded" or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            raise PromptTooLongError(words) if too_long else RequestRefusedError(words)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            words += f"; set {KEY} to a key that it takes"
        return EndpointError(words, 429 if status == HTTPStatus.TOO_MANY_REQUESTS else 502)

    def _shown(self, words: str) -> str:
        """The endpoint's own words, short, and without our key."""
        key = self._key
        return (words.replace(key, "<key>") if key else words)[:300]


def _proxy(url: str) -> str | None:
    """The environment's proxy; aiohttp's own look there would also send what ~/.netrc says."""
    address = urlsplit(url)
    return None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """The data of each server-sent event, until `[DONE]`."""
    if response.content_type != "text/event-stream":
        raise EndpointError(f"the endpoint answers {response.content_type}, not a stream of events: is the URL right?")
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        if data:
            yield data


def _chunk(data: bytes) -> _Chunk:
    try:
        return _Chunk.model_validate_json(data)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "an event"
        shown = data[:100].decode("utf-8", "replace")
        raise EndpointError(f"the endpoint's stream is no chat completion: {place} in {shown}") from error


def _said(raw: bytes) -> _Error:
    """The error in an answer's body, in OpenAI's shape or as plain words."""
    with suppress(ValidationError):
        error = _Chunk.model_validate_json(raw).error
        if error is not None:
            return _Error(message=error) if isinstance(error, str) else error
    return _Error(message=raw.decode("utf-8", "replace").strip())


def _retry_after(header: str) -> float | None:
    """Seconds that the header asks to wait, which gives them or a date; None where it gives neither."""
    if header.strip().isdigit():
        return float(header)
    with suppress(ValueError, TypeError):
        when = parsedate_to_datetime(header)
        return max((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    return None
