"""Who may ask a model Bento: whoever has the engine token, in JSON; whether it lives and is ready anybody may ask.

ASGI middleware, to be added before all others; refuses before the body is read.
"""

from __future__ import annotations

from bentoml.exceptions import BentoMLException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from components import engine_token
from components.stage import StageError

OPEN = frozenset({"/livez", "/healthz", "/readyz"})


def require_token() -> None:
    """Raise `BentoMLException` where the environment has no engine token, which ends the server in one line."""
    try:
        engine_token.require()
    except StageError as error:
        raise BentoMLException(str(error)) from error


class Access:
    """Passes on what may pass; 401 without the token, 415 for what a web page could send without being allowed to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._token = engine_token.require()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no Bento here has one
            return await send({"type": "websocket.close", "code": 1008})
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN:
            return None
        headers = Headers(scope=scope)
        if not engine_token.matches(headers.get("authorization", ""), self._token):
            refusal = {"error": f"not allowed: send the header `Authorization: Bearer <{engine_token.VARIABLE}>`"}
            return JSONResponse(refusal, 401, {"www-authenticate": "Bearer"})
        content = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] not in ("GET", "HEAD") and content != "application/json":
            return JSONResponse({"error": f"the body is {content or 'of no type'}, not application/json"}, 415)
        return None
