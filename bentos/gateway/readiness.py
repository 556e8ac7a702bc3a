"""`GET /readyz`: 200 where both lines' champions answer and requests can be recorded, else 503 in OpenAI's shape.

ASGI middleware, because BentoML's own answer to this path would have BentoML's shape. Asks nobody: it says what is
known beside the requests, so that it answers at once whatever hangs.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.gateway.app import GatewayApp
from bentos.gateway.errors import ApiError, events_unavailable
from bentos.gateway.schemas import MODELS


class Readiness:
    """Answers the one path and passes everything else on."""

    def __init__(self, app: ASGIApp, gateway: GatewayApp) -> None:
        self.app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/readyz":
            return await self.app(scope, receive, send)
        await self._answer()(scope, receive, send)

    def _answer(self) -> Response:
        try:
            gateway = self._gateway.ready()
            if gateway.events.failing:
                raise events_unavailable()
            for line in MODELS:
                gateway.upstream.info(gateway.traffic.home(line))
        except ApiError as error:
            return error.response()
        return PlainTextResponse("ready\n")
