"""The text Bento: writes completions with continuous batching.

No batch window: each call enters the engine at once and leaves it when it is written, and the engine advances all of
them together. Serves the artifact in ATELIER_TEXT_ARTIFACT, with the adapters in ATELIER_ADAPTERS for jobs that name
them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import bentoml
from bentoml.exceptions import BentoMLException, InvalidArgument, UnprocessableEntity

from bentos import remove_metrics, tracing
from bentos.access import Access, require_token
from bentos.calls import Calls, current, failed, until_disconnect
from bentos.exposition import Exposition
from bentos.protocol import (
    SHARE,
    Info,
    TextJob,
    TextLine,
    Written,
    adapters_folder,
    artifact_folder,
    describe,
    require_artifact,
)
from bentos.text.engines import Engines
from components.artifact import ArtifactError
from components.config import load
from components.runtimes.base import TextRequest, TextResult
from components.runtimes.text import (  # imports its engine only when it loads
    JobFailedError,
    PromptTooLongError,
    RequestRefusedError,
    require_context,
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
        try:
            require_context(artifact_folder("text"), SERVING.text_max_prompt_tokens, SERVING.text_max_new_tokens)
        except ArtifactError as error:
            raise BentoMLException(str(error)) from error

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
            return await until_disconnect(ctx.request.receive, self._whole(job, _share(ctx)))
        except PromptTooLongError as error:
            raise InvalidArgument(str(error)) from error
        except RequestRefusedError as error:
            raise UnprocessableEntity(str(error)) from error

    @bentoml.api
    async def stream(self, job: TextJob, /, ctx: bentoml.Context) -> AsyncGenerator[str, None]:
        try:
            pieces = self._engines.stream(_request(job, _share(ctx)), job.adapter)
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

    async def _whole(self, job: TextJob, share: str) -> Written:
        async with aclosing(self._items(self._engines.stream(_request(job, share), job.adapter))) as items:
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
                        deployment = self._info.deployment
                        yield Written(**vars(item), batch_size=batch_size, deployment=deployment, adapter=adapter)
                        return
            raise JobFailedError("the engine ended without a result")
        finally:
            self._active -= 1
            if call := current():
                call.generated(began, batch_size)


# The decorator has made a service of the class.
_service = cast("bentoml.Service[TextBento]", TextBento)
_service.add_asgi_middleware(Access)
_service.add_asgi_middleware(Exposition)
_service.add_asgi_middleware(Calls, routes=("/generate", "/stream"))


def _request(job: TextJob, share: str) -> TextRequest:
    return TextRequest(tuple(job.messages), job.max_new_tokens, job.temperature, job.top_p, job.seed, share)


def _share(ctx: bentoml.Context) -> str:
    return ctx.request.headers.get(SHARE, "")


def _line(line: TextLine) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"
