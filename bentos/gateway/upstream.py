"""The gateway's client of the model Bentos: calls that end with the caller, and failures told as `ApiError`s."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from pydantic import TypeAdapter, ValidationError

from bentos.calls import outgoing
from bentos.gateway.errors import ApiError, not_finite, overloaded, timed_out, too_long, unavailable, unexpected
from bentos.protocol import JOB_ID, ImageJob, Info, Picture, TextJob, TextLine, Written
from components import engine_token
from components.config import Line

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 2.0  # below uvicorn's 5: a kept connection must not be closed under a request
INFO_SECONDS = 2.0  # how long an answer to /info is believed
PICTURES = TypeAdapter(list[Picture])
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Slot:
    """A place at which a Bento of a line may answer."""

    line: Line
    url: str


class Upstream:
    """Pooled connections to the model Bentos at `urls`, of which a line has one or more; open it in a running loop."""

    def __init__(self, urls: Mapping[Line, Sequence[str]], timeout: float) -> None:
        self.slots: dict[Line, list[Slot]] = {line: [Slot(line, url) for url in urls[line]] for line in urls}
        self._timeout = timeout
        # When each slot last said what it serves, and what; one that went away keeps its name, for who else has it?
        self._infos: dict[Slot, tuple[float, Info]] = {}
        # No limit here: admission already bounds how many calls there are.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        seconds = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=seconds)

    async def close(self) -> None:
        await self._session.close()

    async def info(self, slot: Slot) -> Info:
        """What a slot serves, at most a moment old."""
        known = self._infos.get(slot)
        if known and time.monotonic() - known[0] < INFO_SECONDS:
            return known[1]
        return await self._ask(slot)

    def find(self, line: Line, deployment: str) -> tuple[Slot, Info] | None:
        """The slot that said last that it serves a deployment; asks nobody."""
        said = {slot: said for slot in self.slots[line] if (said := self._infos.get(slot))}
        serving = [slot for slot, (_, info) in said.items() if info.deployment == deployment]
        slot = max(serving, key=lambda slot: said[slot][0], default=None)
        return (slot, said[slot][1]) if slot else None

    def twin(self, slot: Slot) -> Slot | None:
        """Another place that said last that it serves the same."""
        known = self._infos.get(slot)
        same = (other for other, (_, info) in self._infos.items() if known and info.deployment == known[1].deployment)
        return next((other for other in same if other != slot), None)

    async def follow(self) -> None:
        """Ask every slot again and again what it serves, until cancelled: no request waits for one that is down."""
        while True:
            await self.refresh()
            await asyncio.sleep(INFO_SECONDS / 2)

    async def refresh(self) -> None:
        slots = [slot for slots in self.slots.values() for slot in slots]
        await asyncio.gather(*map(self._refresh, slots))

    async def _refresh(self, slot: Slot) -> None:
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(INFO_SECONDS):
                await self._ask(slot)

    async def _ask(self, slot: Slot) -> Info:
        async with self._post(slot, "info", "{}") as response:
            info = Info.model_validate_json(await response.read())
        self._infos[slot] = (time.monotonic(), info)
        return info

    async def paint(self, slot: Slot, job: ImageJob) -> Picture:
        async with self._post(slot, "generate", f'{{"jobs":[{job.model_dump_json()}]}}', job.id) as response:
            picture = PICTURES.validate_json(await response.read())[0]
        if picture.not_finite:
            raise not_finite()
        return picture

    async def write(self, slot: Slot, job: TextJob) -> Written:
        async with self._post(slot, "generate", _body(job)) as response:
            return Written.model_validate_json(await response.read())

    async def stream(self, slot: Slot, job: TextJob) -> AsyncGenerator[TextLine, None]:
        """The deployment, pieces and the result; raises `ApiError` where the stream fails or is cut."""
        async with self._post(slot, "stream", _body(job)) as response:
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
    async def _post(self, slot: Slot, api: str, body: str, job: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        line, began = slot.line, False
        headers = JSON | engine_token.headers() | ({JOB_ID: job} if job else {})
        try:
            with outgoing(f"upstream {line} {api}") as named:
                async with self._session.post(
                    f"{slot.url}/{api}", data=body.encode(), headers=headers | named
                ) as response:
                    if response.status != HTTPStatus.OK:
                        raise _failure(line, response.status, self._timeout)
                    began = True
                    yield response
        except TimeoutError as error:
            raise timed_out(self._timeout) from error
        except aiohttp.ClientError as error:
            if slot in self._infos:
                self._infos[slot] = (-math.inf, self._infos[slot][1])
            failure = unavailable(line)
            failure.unanswered = not began
            raise failure from error
        except ValidationError as error:  # another version of the protocol, or not our Bento at all
            raise unavailable(line) from error


def _body(job: TextJob) -> str:
    """Without what is as by default: a Bento of the version before refuses what it does not know."""
    return job.model_dump_json(exclude_defaults=True)


def _failure(line: Line, status: int, timeout: float) -> ApiError:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return overloaded(f"the {line} model is overloaded", 1)
    if status == HTTPStatus.BAD_REQUEST and line == "text":  # all else was checked before it was sent
        return too_long()
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return timed_out(timeout)
    if status not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.NOT_FOUND):
        return unexpected()
    failure = unavailable(line)
    failure.unanswered = status == HTTPStatus.SERVICE_UNAVAILABLE
    return failure
