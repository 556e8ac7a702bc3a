"""`GET /readyz`: 200 once both lines' champions answer, else 503 in OpenAI's shape, naming the line that does not.

ASGI middleware, because BentoML's own answer to this path would have BentoML's shape.
"""

from __future__ import annotations

import asyncio

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.gateway.app import GatewayApp
from bentos.gateway.errors import ApiError, unavailable
from bentos.gateway.schemas import MODELS
from bentos.gateway.upstream import Slot, Upstream

ANSWER_SECONDS = 3.0  # a model Bento that takes longer to say what it serves is still loading


class Readiness:
    """Answers the one path and passes everything else on."""

    def __init__(self, app: ASGIApp, gateway: GatewayApp) -> None:
        self.app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/readyz":
            return await self.app(scope, receive, send)
        await (await self._answer())(scope, receive, send)

    async def _answer(self) -> Response:
        try:
            gateway = self._gateway.ready()
            await asyncio.gather(*(require_ready(gateway.upstream, gateway.traffic.home(line)) for line in MODELS))
        except ApiError as error:
            return error.response()
        return PlainTextResponse("ready\n")


async def require_ready(upstream: Upstream, slot: Slot) -> None:
    """Raise a 503 `ApiError` unless the champion's Bento says in time what it serves."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await upstream.info(slot)
    except (ApiError, TimeoutError) as error:
        raise unavailable(slot.line) from error
