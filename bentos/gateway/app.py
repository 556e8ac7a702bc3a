"""The gateway's ASGI application: routes, and what holds for every one of them.

Every endpoint authenticates, reads a bounded body, and works only as long as its client is connected. Every refusal,
the router's included, has OpenAI's shape. Knows neither BentoML nor how the gateway was started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.calls import CLIENT_GONE, Calls, ClientGone, current, until_disconnect
from bentos.gateway.chat import chat
from bentos.gateway.errors import ApiError, events_unavailable, http_error, late, unexpected
from bentos.gateway.exchange import Gateway
from bentos.gateway.feedback import feedback
from bentos.gateway.images import images
from bentos.gateway.schemas import check_model
from bentos.protocol import MAX_CONVERSATION, REQUEST_ID
from components.config import Line
from components.lines import IMAGE, LINES, TEXT
from monitoring import metrics

BODY_SECONDS = 25.0  # until a body is complete: before the connection's own bound, for an answer in our shape
MAX_BODY = 6 * MAX_CONVERSATION + 64 * 1024  # bytes: JSON may escape each character of most scripts in six
CHAT, IMAGES = "/v1/chat/completions", "/v1/images/generations"
LINE_OF: dict[str, Line] = {CHAT: TEXT.name, IMAGES: IMAGE.name}

Handler = Callable[[Gateway, str, bytes, Send], Coroutine[Any, Any, Response | None]]


class GatewayApp:
    """The application; answers 503 until `gateway` is set.

    Not a Starlette itself: BentoML would then answer unknown paths in its own shape instead of passing them on.
    """

    def __init__(self) -> None:
        self.gateway: Gateway | None = None
        routes = [
            Route(CHAT, _Endpoint(self, chat), methods=["POST"]),
            Route(IMAGES, _Endpoint(self, images), methods=["POST"]),
            Route("/v1/feedback", _Endpoint(self, feedback), methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{model}", self._model, methods=["GET"]),
        ]
        handlers = {ApiError: _api_error, HTTPException: _http_exception, Exception: _bug}
        self._routes = Starlette(routes=routes, exception_handlers=handlers)
        self._app = Calls(self._identified, (*LINE_OF, "/v1/feedback", "/v1/models"), public=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _identified(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the answer carry the id under which its request is logged: that which it has when the answer begins."""
        call, answered = current(), False
        if call is None:
            return await self._routes(scope, receive, send)

        async def send_identified(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault(REQUEST_ID, call.id)
            await send(message)

        await self._routes(scope, receive, send_identified)
        if not answered:
            # Nobody reads it, but BentoML keeps a request, and with it the server, until something was sent.
            await Response(status_code=CLIENT_GONE)(scope, receive, send)

    def ready(self) -> Gateway:
        if self.gateway is None:
            raise ApiError(503, "the gateway is starting", code="starting")
        return self.gateway

    def authenticate(self, request: Request) -> str:
        return self.ready().keys.authenticate(request.headers.get("authorization"))

    async def _models(self, request: Request) -> Response:
        self.authenticate(request)
        return JSONResponse({"object": "list", "data": [_card(line.model) for line in LINES.values()]})

    async def _model(self, request: Request) -> Response:
        self.authenticate(request)
        model = request.path_params["model"]
        if model not in {line.model for line in LINES.values()}:
            check_model(model, TEXT.name)
        return JSONResponse(_card(model))


class _Endpoint:
    """An ASGI endpoint around a handler, whose work is cancelled when its client goes."""

    def __init__(self, app: GatewayApp, handler: Handler) -> None:
        self._app, self._handler = app, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        key = self._app.authenticate(request)
        try:
            body = await _read(request)
            response = await until_disconnect(receive, self._handler(self._app.ready(), key, body, send))
        except (ClientGone, ClientDisconnect):
            return
        if response is not None:
            await response(scope, receive, send)


class Readiness:
    """`GET /readyz`: 200 where every line's champion answers and requests can be recorded, else 503 in OpenAI's shape.

    A line that was never released, beside one that was, is not waited for.

    ASGI middleware, because BentoML's own answer to this path would have BentoML's shape. Asks nobody: it says what is
    known beside the requests, so that it answers at once whatever hangs.
    """

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
            for line in gateway.traffic.awaited:
                gateway.upstream.info(gateway.traffic.champion_slot(line))
        except ApiError as error:
            return error.response()
        return PlainTextResponse("ready\n")


async def _read(request: Request) -> bytes:
    """The whole body; raises a 413 `ApiError` before more than `MAX_BODY` bytes are held, and 408 where it stops."""
    refusal = ApiError(413, f"the body is larger than {MAX_BODY} bytes", code="body_too_large")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        raise refusal
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise refusal
    except TimeoutError as error:
        raise late(BODY_SECONDS) from error
    return bytes(body)


def _card(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "atelier"}


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    if not error.on_record:
        metrics.REFUSED.labels(LINE_OF.get(request.url.path, ""), str(error.status), error.code or "").inc()
    return error.response()


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_error(request, error.status_code, error.headers).response()


async def _bug(_: Request, __: Exception) -> Response:
    """Starlette raises the exception again after this answer, so that the server logs its traceback."""
    return unexpected().response()
