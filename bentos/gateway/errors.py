"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ApiError(Exception):
    """A request is refused or fails; `message` tells its sender what to do about it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.headers = dict(headers or {})
        self.unanswered = False  # whether a model gave no byte of an answer, so that it may be asked again
        self.on_record = False  # whether the request it ends was stored and counted

    def body(self) -> dict[str, object]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        return JSONResponse(self.body(), self.status, self.headers)


def overloaded(message: str, retry_after: int) -> ApiError:
    headers = {"retry-after": str(retry_after)}
    return ApiError(429, message, kind="rate_limit_error", code="overloaded", headers=headers)


def unavailable(line: str) -> ApiError:
    message = f"the {line} model does not answer at the moment; try again later"
    return ApiError(503, message, kind="server_error", code="model_unavailable", headers={"retry-after": "5"})


def events_unavailable() -> ApiError:
    message = "requests cannot be recorded at the moment; try again later"
    return ApiError(503, message, kind="server_error", code="events_unavailable", headers={"retry-after": "5"})


def too_long(reason: str = "") -> ApiError:
    """`reason`: the model Bento's own words, which name tokens and limit."""
    message = reason or "the messages and the tokens asked for do not fit into the model's context"
    return ApiError(400, f"messages: {message}; send less", param="messages", code="context_length_exceeded")


def refused() -> ApiError:
    return ApiError(400, "the model cannot take a request with such parameters", code="invalid_value")


def timed_out(seconds: float) -> ApiError:
    return ApiError(504, f"no answer within {seconds:g} s", kind="server_error", code="timeout")


def late(seconds: float) -> ApiError:
    """Of a body that does not come to its end; the connection is of no use any more."""
    message = f"the body did not come to its end within {seconds:g} s"
    return ApiError(408, message, code="request_timeout", headers={"connection": "close"})


def unexpected() -> ApiError:
    return ApiError(500, "unexpected error; the gateway's log has its cause", kind="server_error", code="internal")


def not_finite() -> ApiError:
    message = "the model's picture came out NaN or infinite; ask again with other words or another seed"
    return ApiError(500, message, kind="server_error", code="not_finite")


def http_error(request: Request, status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """The shape for what the router itself refuses: an unknown path or a method that a path does not have."""
    path = f"{request.method} {request.url.path}"
    if status == 404:
        return ApiError(404, f"{path} does not exist", code="unknown_url", headers=headers)
    if status == 405:
        return ApiError(
            405, f"{path}: this path exists, but not with this method", code="method_not_allowed", headers=headers
        )
    return ApiError(status, f"{path}: HTTP status {status}", headers=headers)
