"""MLflow's server behind a password: `uvicorn --factory flows.mlflow_server:app`, one process.

HTTP Basic in front of all but `/health`. MLflow's own `basic-auth` is an experiment with a database of users, for which
there is no need on one machine; its checks of hosts and origins stay in force behind this one.
"""

from __future__ import annotations

import base64
import hmac
import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOGIN = "ATELIER_MLFLOW_LOGIN"  # the variable that holds user and password, with a colon between


class Login:
    """Passes on requests with the right user and password that no page of another origin has sent."""

    def __init__(self, app: ASGIApp, login: str) -> None:
        self._app, self._expected = app, b"Basic " + base64.b64encode(login.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # MLflow has none
            return await send({"type": "websocket.close", "code": 1008})
        refusal = self._refusal(scope) if scope["type"] == "http" and scope["path"] != "/health" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not hmac.compare_digest(headers.get("authorization", "").encode(), self._expected):
            return PlainTextResponse("sign in", 401, {"www-authenticate": 'Basic realm="MLflow", charset="UTF-8"'})
        # A browser that has signed in sends the password along with what other pages ask, too.
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return PlainTextResponse("another page must not ask this", 403)
        return None


def app() -> ASGIApp:
    """The application, with the login in the environment."""
    from mlflow.server.fastapi_app import app as mlflow

    return Login(mlflow, os.environ[LOGIN])
