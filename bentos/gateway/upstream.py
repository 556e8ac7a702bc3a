"""The gateway's client of the model Bentos: calls that end with the caller, and failures as `ApiError`s."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from pydantic import TypeAdapter, ValidationError

from bentos.calls import outgoing
from bentos.gateway.errors import (
    ApiError,
    not_finite,
    overloaded,
    refused,
    timed_out,
    too_long,
    unavailable,
    unexpected,
)
from bentos.protocol import JOB_ID, SHARE, TRACE, ImageJob, Info, Picture, TextJob, TextLine, Written
from components import engine_token
from components.config import Line

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 2.0  # below uvicorn's 5: a kept connection must not be closed under a request
POLL_SECONDS = 1.0  # between two questions to a place what it serves
INFO_SECONDS = 2.0  # how long it may take to say it
SILENT_SECONDS = 10.0  # since its last answer; then it hangs, and is given no more work until it answers again
PICTURES = TypeAdapter(list[Picture])
REFUSALS = TypeAdapter(list[dict[str, str]])
NO_HEADERS: Mapping[str, str] = {}


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
        self._headers = {"content-type": "application/json", **engine_token.headers()}
        # When each slot last said what it serves, and what; one that went away keeps its name, for who else has it?
        self._infos: dict[Slot, tuple[float, Info]] = {}
        self._unreachable: set[Slot] = set()
        self._lost = {slot: asyncio.Event() for slots in self.slots.values() for slot in slots}
        # No limit here: admission already bounds how many calls there are.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector)

    async def close(self) -> None:
        await self._session.close()

    def info(self, slot: Slot) -> Info:
        """What a slot said last that it serves; asks nobody. Raises a 503 `ApiError` where it does not answer."""
        if not self.answers(slot):
            raise unavailable(slot.line)
        return self._infos[slot][1]

    def answers(self, slot: Slot) -> bool:
        last = self._infos.get(slot)
        silent = last is None or time.monotonic() - last[0] > SILENT_SECONDS
        return not silent and slot not in self._unreachable

    def serving(self, line: Line, deployment: str) -> tuple[Slot, Info] | None:
        """The slot that said last that it serves a deployment, one that answers before others; asks nobody."""
        infos = {slot: self._infos[slot] for slot in self.slots[line] if slot in self._infos}
        serving = [slot for slot, (_, info) in infos.items() if info.deployment == deployment]
        slot = max(serving, key=lambda slot: (self.answers(slot), infos[slot][0]), default=None)
        return (slot, infos[slot][1]) if slot else None

    def endpoint(self, line: Line) -> tuple[Slot, Info] | None:
        """A slot that answers and asks an API."""
        known = ((slot, self._infos[slot][1]) for slot in self.slots[line] if self.answers(slot))
        return next(((slot, info) for slot, info in known if info.endpoint), None)

    def replica(self, slot: Slot) -> Slot | None:
        """Another place that said last that it serves the same."""
        if slot not in self._infos:
            return None
        deployment = self._infos[slot][1].deployment
        others = (other for other, (_, info) in self._infos.items() if info.deployment == deployment)
        return next((other for other in others if other != slot), None)

    async def follow(self) -> None:
        """Ask every slot again and again what it serves, until cancelled: no request waits for that, and no slot for
        another."""
        await asyncio.gather(*map(self._follow, self._lost))

    async def _follow(self, slot: Slot) -> None:
        lost = self._lost[slot]
        while True:
            with suppress(TimeoutError):  # a connection that failed is reason to ask at once
                await asyncio.wait_for(lost.wait(), POLL_SECONDS)
            await self._refresh(slot)
            lost.clear()

    async def refresh(self) -> None:
        await asyncio.gather(*map(self._refresh, self._lost))

    async def _refresh(self, slot: Slot) -> None:
        try:
            async with self._post(slot, "info", "{}", seconds=INFO_SECONDS) as response:
                info = Info.model_validate_json(await response.read())
        except ApiError as error:
            if error.status != HTTPStatus.GATEWAY_TIMEOUT:  # that may be a busy moment: silence tells
                self._unreachable.add(slot)
        else:
            self._unreachable.discard(slot)
            self._infos[slot] = (time.monotonic(), info)

    async def paint(self, slot: Slot, job: ImageJob) -> Picture:
        body = f'{{"jobs":[{job.model_dump_json()}]}}'
        async with self._post(slot, "generate", body, {JOB_ID: job.id}) as response:
            picture = PICTURES.validate_json(await response.read())[0]
        if picture.not_finite:
            raise not_finite()
        return picture

    async def write(self, slot: Slot, job: TextJob, share: str = "", traced: bool = False) -> Written:
        """The whole answer; `share` says of whom it is, as `SHARE` has it; `traced` asks for its trace."""
        async with self._post(slot, "generate", _body(job), _headers(share, traced)) as response:
            return Written.model_validate_json(await response.read())

    async def stream(
        self, slot: Slot, job: TextJob, share: str = "", traced: bool = False
    ) -> AsyncGenerator[TextLine, None]:
        """The deployment, pieces and the result; raises `ApiError` where the stream fails or is cut."""
        async with self._post(slot, "stream", _body(job), _headers(share, traced)) as response:
            async for raw in response.content:
                line = TextLine.model_validate_json(raw)
                if line.too_long is not None:
                    raise too_long(line.too_long)
                if line.refused is not None:
                    raise refused()
                if line.unanswered is not None:
                    raise _failure("text", line.unanswered, self._timeout, b"")
                if line.error is not None:
                    raise unexpected()
                yield line
                if line.result is not None:
                    return
        raise unavailable("text")

    @asynccontextmanager
    async def _post(
        self, slot: Slot, api: str, body: str, headers: Mapping[str, str] = NO_HEADERS, seconds: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        line, began = slot.line, False
        timeout = aiohttp.ClientTimeout(total=seconds or self._timeout, sock_connect=CONNECT_SECONDS)
        try:
            with outgoing(f"upstream {line} {api}") as named:
                async with self._session.post(
                    f"{slot.url}/{api}",
                    data=body.encode(),
                    headers={**self._headers, **headers, **named},
                    timeout=timeout,
                ) as response:
                    if response.status != HTTPStatus.OK:
                        raise _failure(line, response.status, self._timeout, await response.read())
                    began = True
                    yield response
        except TimeoutError as error:
            raise timed_out(self._timeout) from error
        except aiohttp.ClientError as error:
            self._lost[slot].set()
            failure = unavailable(line)
            failure.unanswered = not began
            raise failure from error
        except ValidationError as error:  # another version of the protocol, or not our Bento at all
            raise unavailable(line) from error


def _body(job: TextJob) -> str:
    """Without what is as by default: a Bento of the version before refuses what it does not know."""
    return job.model_dump_json(exclude_defaults=True)


def _headers(share: str, traced: bool) -> dict[str, str]:
    return {SHARE: share} | ({TRACE: "1"} if traced else {})


def _reason(body: bytes) -> str:
    """A Bento's own words for a refusal, empty where there are none: BentoML wraps them in a list."""
    try:
        return REFUSALS.validate_json(body)[0]["error"]
    except (ValidationError, LookupError):
        return ""


def _failure(line: Line, status: int, timeout: float, body: bytes) -> ApiError:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return overloaded(f"the {line} model is overloaded", 1)
    if status == HTTPStatus.BAD_REQUEST and line == "text":  # all else was checked before it was sent
        return too_long(_reason(body))
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return refused()
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return timed_out(timeout)
    # 502: an endpoint behind the Bento, which has been asked again already.
    if status not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.NOT_FOUND, HTTPStatus.BAD_GATEWAY):
        return unexpected()
    failure = unavailable(line)
    failure.unanswered = status == HTTPStatus.SERVICE_UNAVAILABLE
    return failure
