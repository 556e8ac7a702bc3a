"""The text Bento: writes completions with continuous batching.

No batch window: each call enters the engine at once and leaves it when it is written, and the engine advances all of
them together. Serves the artifact in ATELIER_TEXT_ARTIFACT, with the adapters in ATELIER_ADAPTERS for jobs that name
them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import cast

import bentoml
from bentoml.exceptions import InvalidArgument, UnprocessableEntity

from bentos import remove_metrics, tracing
from bentos.access import Access, require_token
from bentos.calls import Calls, current, failed, until_disconnect
from bentos.exposition import Exposition
from bentos.protocol import (
    SHARE,
    TRACE,
    Info,
    TextJob,
    TextLine,
    Trace,
    Written,
    adapters_folder,
    artifact_folder,
    describe,
    require_artifact,
)
from bentos.text.engines import Engines
from components.config import load
from components.runtimes.base import TextRequest, TextResult
from components.runtimes.text import (  # imports its engine only when it loads
    JobFailedError,
    PromptTooLongError,
    RequestRefusedError,
)

SERVING = load().serving


@bentoml.service(
    name="atelier-text",
    workers=1,
    traffic={"timeout": SERVING.request_timeout + 30},
    logging={"access": {"enabled": False}},  # ours has the request's id
)
class TextBento:
    """`POST /generate` job → the whole completion; `POST /stream` job → JSON lines; `POST /info` → what is served."""

    def __init__(self) -> None:
        folder = artifact_folder("text")
        self._engines = Engines(folder, adapters_folder(), SERVING.text_max_prompt_tokens)
        self._info = describe("text", folder)
        self._active = 0
        Calls.served = ("text", self._info.deployment)
        tracing.start("atelier-text")

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        require_token()
        require_artifact("text")

    @bentoml.on_shutdown
    def close(self) -> None:
        self._engines.close()
        tracing.stop()
        remove_metrics()

    @bentoml.api
    async def info(self) -> Info:
        return self._info

    @bentoml.api
    async def generate(self, job: TextJob, /, ctx: bentoml.Context) -> Written:
        """Ends early, and frees its place in the engine, when the caller disconnects."""
        try:
            return await until_disconnect(ctx.request.receive, self._whole(job, ctx.request.headers))
        except PromptTooLongError as error:
            raise InvalidArgument(str(error)) from error
        except RequestRefusedError as error:
            raise UnprocessableEntity(str(error)) from error

    @bentoml.api
    async def stream(self, job: TextJob, /, ctx: bentoml.Context) -> AsyncGenerator[str, None]:
        try:
            pieces = self._engines.stream(_request(job, ctx.request.headers), job.adapter)
            # At once, so that a caller who leaves before the first token is noticed.
            yield _line(TextLine(deployment=self._info.deployment))
            async with aclosing(self._items(pieces)) as items:
                async for item in items:
                    yield _line(TextLine(piece=item) if isinstance(item, str) else TextLine(result=item))
        except PromptTooLongError as error:
            failed(400)
            yield _line(TextLine(too_long=str(error)))
        except RequestRefusedError as error:
            failed(422)
            yield _line(TextLine(refused=str(error)))
        except Exception as error:  # a failed stream must not look like a complete one
            failed(500)
            yield _line(TextLine(error=f"{type(error).__name__}: {error}"))
            raise

    async def _whole(self, job: TextJob, headers: Mapping[str, str]) -> Written:
        async with aclosing(self._items(self._engines.stream(_request(job, headers), job.adapter))) as items:
            (written,) = [item async for item in items if isinstance(item, Written)]
        return written

    async def _items(
        self, pieces: AsyncGenerator[tuple[str | TextResult, str], None]
    ) -> AsyncGenerator[str | Written, None]:
        """Pieces, then the result; raises `JobFailedError` where none comes."""
        self._active += 1
        batch_size, began = self._active, time.time_ns()
        try:
            async with aclosing(pieces):
                async for item, adapter in pieces:
                    if isinstance(item, str):
                        yield item
                    else:
                        yield self._written(item, batch_size, adapter)
                        return
            raise JobFailedError("the engine ended without a result")
        finally:
            self._active -= 1
            if call := current():
                call.generated(began, batch_size)

    def _written(self, result: TextResult, batch_size: int, adapter: str) -> Written:
        fields = vars(result) | {"trace": Trace(**asdict(result.trace)) if result.trace else None}
        return Written(**fields, batch_size=batch_size, deployment=self._info.deployment, adapter=adapter)


# The decorator has made a service of the class.
_service = cast("bentoml.Service[TextBento]", TextBento)
_service.add_asgi_middleware(Access)
_service.add_asgi_middleware(Exposition)
_service.add_asgi_middleware(Calls, routes=("/generate", "/stream"))


def _request(job: TextJob, headers: Mapping[str, str]) -> TextRequest:
    """`headers`: of the call; what they ask for is no field of a job."""
    share, traced = headers.get(SHARE, ""), TRACE in headers
    return TextRequest(tuple(job.messages), job.max_new_tokens, job.temperature, job.top_p, job.seed, share, traced)


def _line(line: TextLine) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"
