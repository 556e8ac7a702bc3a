"""The gateway's client of the model Bentos: calls that end with the caller, and failures told as `ApiError`s."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp
from pydantic import TypeAdapter, ValidationError

from bentos.gateway.errors import ApiError, overloaded, timed_out, too_long, unavailable, unexpected
from bentos.protocol import JOB_ID, ImageJob, Info, Picture, TextJob, TextLine, Written
from components.config import Line

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 2.0  # below uvicorn's 5: a kept connection must not be closed under a request
INFO_SECONDS = 2.0  # how long an answer to /info is believed
PICTURES = TypeAdapter(list[Picture])
JSON = {"content-type": "application/json"}


class Upstream:
    """Pooled connections to the model Bentos at `urls`; open it inside a running event loop."""

    def __init__(self, urls: Mapping[Line, str], timeout: float) -> None:
        self._urls, self._timeout = urls, timeout
        self._infos: dict[Line, tuple[float, Info]] = {}
        # No limit here: admission already bounds how many calls there are.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        seconds = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=seconds)

    async def close(self) -> None:
        await self._session.close()

    async def info(self, line: Line) -> Info:
        """What the line's Bento serves, at most a moment old."""
        known = self._infos.get(line)
        if known and time.monotonic() - known[0] < INFO_SECONDS:
            return known[1]
        async with self._post(line, "info", "{}") as response:
            info = Info.model_validate_json(await response.read())
        self._infos[line] = (time.monotonic(), info)
        return info

    async def paint(self, job: ImageJob) -> Picture:
        async with self._post("image", "generate", f'{{"jobs":[{job.model_dump_json()}]}}', job.id) as response:
            return PICTURES.validate_json(await response.read())[0]

    async def write(self, job: TextJob) -> Written:
        async with self._post("text", "generate", job.model_dump_json()) as response:
            return Written.model_validate_json(await response.read())

    async def stream(self, job: TextJob) -> AsyncGenerator[TextLine, None]:
        """The deployment, pieces and the result; raises `ApiError` where the stream fails or is cut."""
        async with self._post("text", "stream", job.model_dump_json()) as response:
            async for raw in response.content:
                line = TextLine.model_validate_json(raw)
                if line.too_long is not None:
                    raise too_long()
                if line.error is not None:
                    raise unexpected()
                yield line
                if line.result is not None:
                    return
        raise unavailable("text")

    @asynccontextmanager
    async def _post(self, line: Line, api: str, body: str, job: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        headers = JSON | ({JOB_ID: job} if job else {})
        try:
            async with self._session.post(f"{self._urls[line]}/{api}", data=body.encode(), headers=headers) as response:
                if response.status != HTTPStatus.OK:
                    raise _failure(line, response.status, self._timeout)
                yield response
        except TimeoutError as error:
            raise timed_out(self._timeout) from error
        except aiohttp.ClientError as error:
            self._infos.pop(line, None)
            raise unavailable(line) from error
        except ValidationError as error:  # another version of the protocol, or not our Bento at all
            raise unavailable(line) from error


def _failure(line: Line, status: int, timeout: float) -> ApiError:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return overloaded(f"the {line} model is overloaded", 1)
    if status == HTTPStatus.BAD_REQUEST and line == "text":  # all else was checked before it was sent
        return too_long()
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return timed_out(timeout)
    return unavailable(line) if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.NOT_FOUND) else unexpected()
