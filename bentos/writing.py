"""What every text Bento answers: completions, whole or as they are written, by whatever engine it has.

No batch window: each call enters the engine at once and leaves it when it is written.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from http import HTTPStatus

import bentoml
from bentoml.exceptions import BentoMLException, InvalidArgument, UnprocessableEntity

from bentos.calls import current, failed, until_disconnect
from bentos.protocol import SHARE, TRACE, Info, TextJob, TextLine, Trace, Written
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
            return await until_disconnect(ctx.request.receive, self._whole(job, ctx.request.headers))
        except PromptTooLongError as error:
            raise InvalidArgument(str(error)) from error
        except RequestRefusedError as error:
            raise UnprocessableEntity(str(error)) from error

    @bentoml.api
    async def stream(self, job: TextJob, /, ctx: bentoml.Context) -> AsyncGenerator[str, None]:
        """`TextLine`s: what fails once the answer has begun is told in one of them, as its status is sent by then."""
        try:
            pieces = self._write(_request(job, ctx.request.headers), job.adapter)
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

    async def _whole(self, job: TextJob, headers: Mapping[str, str]) -> Written:
        async with aclosing(self._items(self._write(_request(job, headers), job.adapter))) as items:
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


def _request(job: TextJob, headers: Mapping[str, str]) -> TextRequest:
    """`headers`: of the call; what they ask for is no field of a job."""
    share, traced = headers.get(SHARE, ""), TRACE in headers
    return TextRequest(tuple(job.messages), job.max_new_tokens, job.temperature, job.top_p, job.seed, share, traced)


def _line(line: TextLine) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"
