"""The gateway's ASGI application: routes, and what holds for every one of them.

Every endpoint authenticates, reads a bounded body, and works only as long as its client is connected. Every refusal,
the router's included, has OpenAI's shape. Knows neither BentoML nor how the gateway was started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from bentos.calls import CLIENT_GONE, Calls, current
from bentos.disconnect import ClientGone, until_disconnect
from bentos.gateway.chat import chat
from bentos.gateway.errors import ApiError, http_error, late, unexpected
from bentos.gateway.exchange import Gateway
from bentos.gateway.feedback import feedback
from bentos.gateway.images import images
from bentos.gateway.schemas import MODELS, check_model
from bentos.protocol import REQUEST_ID
from components.config import Line
from monitoring import metrics

BODY_SECONDS = 25.0  # until a body is complete: before the connection's own bound, for an answer in our shape
MAX_BODY = 256 * 1024  # bytes: 100 messages of the longest prompt in the widest characters stay below it
LINES: dict[str, Line] = {"/v1/chat/completions": "text", "/v1/images/generations": "image"}

Handler = Callable[[Gateway, str, bytes, Send], Awaitable[Response | None]]


class GatewayApp:
    """The application; answers 503 until `gateway` is set.

    Not a Starlette itself: BentoML would then answer unknown paths in its own shape instead of passing them on.
    """

    def __init__(self) -> None:
        self.gateway: Gateway | None = None
        routes = [
            Route("/v1/chat/completions", _Endpoint(self, chat), methods=["POST"]),
            Route("/v1/images/generations", _Endpoint(self, images), methods=["POST"]),
            Route("/v1/feedback", _Endpoint(self, feedback), methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{model}", self._model, methods=["GET"]),
        ]
        handlers = {ApiError: _api_error, HTTPException: _http_exception, Exception: _bug}
        self._routes = Starlette(routes=routes, exception_handlers=handlers)
        self._app = Calls(self._identified, (*LINES, "/v1/feedback", "/v1/models"), public=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _identified(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every answer carries its request's id, under which it is logged."""
        call = current()
        if call is None:
            return await self._routes(scope, receive, send)
        answered = False

        async def identified(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                if not any(name == REQUEST_ID.encode() for name, _ in headers):
                    message["headers"] = [*headers, (REQUEST_ID.encode(), call.id.encode())]
            await send(message)

        await self._routes(scope, receive, identified)
        if not answered:
            # Nobody reads it, but BentoML keeps a request, and with it the server, until something was sent.
            await Response(status_code=CLIENT_GONE)(scope, receive, send)

    def ready(self) -> Gateway:
        if self.gateway is None:
            raise ApiError(503, "the gateway is starting", kind="server_error", code="starting")
        return self.gateway

    def authenticate(self, request: Request) -> str:
        return self.ready().keys.authenticate(request.headers.get("authorization"))

    async def _models(self, request: Request) -> Response:
        self.authenticate(request)
        return JSONResponse({"object": "list", "data": [_card(model) for model in MODELS.values()]})

    async def _model(self, request: Request) -> Response:
        self.authenticate(request)
        model = request.path_params["model"]
        if model not in MODELS.values():
            check_model(model, "text")
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
            response = await until_disconnect(receive, self._work(key, body, send))
        except (ClientGone, ClientDisconnect):
            return
        if response is not None:
            await response(scope, receive, send)

    async def _work(self, key: str, body: bytes, send: Send) -> Response | None:
        return await self._handler(self._app.ready(), key, body, send)


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
        metrics.REFUSED.labels(LINES.get(request.url.path, ""), str(error.status), error.code or "").inc()
    return error.response()


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_error(request, error.status_code, error.headers).response()


async def _bug(_: Request, __: Exception) -> Response:
    """Starlette raises the exception again after this answer, so that the server logs its traceback."""
    return unexpected().response()
