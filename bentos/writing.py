"""What every text Bento answers: completions, whole or as they are written, by whatever engine it has.

No batch window: each call enters the engine at once and leaves it when it is written.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus

import bentoml
from bentoml.exceptions import BentoMLException, InvalidArgument, UnprocessableEntity

from bentos.calls import current, failed, until_disconnect
from bentos.protocol import SHARE, Info, TextJob, TextLine, Written
from components.runtimes.base import JobFailedError, PromptTooLongError, RequestRefusedError, TextRequest, TextResult


class UnansweredError(BentoMLException):
    """The engine does not answer for now, with the HTTP status that says why."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, error_code=HTTPStatus(status))


class Writing(ABC):
    """`POST /generate` job → the whole completion; `POST /stream` job → JSON lines; `POST /info` → what is served."""

    _info: Info
    _active = 0

    @abstractmethod
    def _write(self, request: TextRequest, adapter: str) -> AsyncGenerator[tuple[str | TextResult, str], None]:
        """Pieces and the result, each with the adapter that wrote it (or none).

        Raises `RequestRefusedError`, at the call where it can, and `UnansweredError`.
        """

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
            pieces = self._write(_request(job, _share(ctx)), job.adapter)
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
        except UnansweredError as error:
            failed(error.error_code)
            yield _line(TextLine(unanswered=error.error_code))
        except Exception as error:  # a failed stream must not look like a complete one
            failed(500)
            yield _line(TextLine(error=f"{type(error).__name__}: {error}"))
            raise

    async def _whole(self, job: TextJob, share: str) -> Written:
        async with aclosing(self._items(self._write(_request(job, share), job.adapter))) as items:
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


def _request(job: TextJob, share: str) -> TextRequest:
    return TextRequest(tuple(job.messages), job.max_new_tokens, job.temperature, job.top_p, job.seed, share)


def _share(ctx: bentoml.Context) -> str:
    return ctx.request.headers.get(SHARE, "")


def _line(line: TextLine) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"
