"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

KINDS = {401: "authentication_error", 429: "rate_limit_error"}  # by status, where it is no server error


class ApiError(Exception):
    """A request is refused or fails; `message` tells its sender what to do about it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        self.unanswered = False  # whether a model gave no byte of an answer, so that it may be asked again
        self.on_record = False  # whether the request it ends was stored and counted

    def body(self) -> dict[str, object]:
        kind = "server_error" if self.status >= 500 else KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        return JSONResponse(self.body(), self.status, self.headers)


def overloaded(message: str, retry_after: int) -> ApiError:
    return ApiError(429, message, code="overloaded", headers={"retry-after": str(retry_after)})


def unavailable(line: str) -> ApiError:
    message = f"the {line} model does not answer at the moment; try again later"
    return ApiError(503, message, code="model_unavailable", headers={"retry-after": "5"})


def events_unavailable() -> ApiError:
    message = "requests cannot be recorded at the moment; try again later"
    return ApiError(503, message, code="events_unavailable", headers={"retry-after": "5"})


def too_long(reason: str = "") -> ApiError:
    """`reason`: the model Bento's own words, which name tokens and limit."""
    message = reason or "the messages and the tokens asked for do not fit into the model's context"
    return ApiError(400, f"messages: {message}; send less", param="messages", code="context_length_exceeded")


def refused() -> ApiError:
    return ApiError(400, "the model cannot take a request with such parameters", code="invalid_value")


def timed_out(seconds: float) -> ApiError:
    return ApiError(504, f"no answer within {seconds:g} s", code="timeout")


def late(seconds: float) -> ApiError:
    """Of a body that does not come to its end; the connection is of no use any more."""
    message = f"the body did not come to its end within {seconds:g} s"
    return ApiError(408, message, code="request_timeout", headers={"connection": "close"})


def unexpected() -> ApiError:
    return ApiError(500, "unexpected error; the gateway's log has its cause", code="internal")


def not_finite() -> ApiError:
    message = "the model's picture came out NaN or infinite; ask again with other words or another seed"
    return ApiError(500, message, code="not_finite")


def http_error(request: Request, status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """The shape for what the router itself refuses: an unknown path or a method that a path does not have."""
    path = f"{request.method} {request.url.path}"
    if status == 404:
        return ApiError(404, f"{path} does not exist", code="unknown_url", headers=headers)
    if status == 405:
        message = f"{path}: this path exists, but not with this method"
        return ApiError(405, message, code="method_not_allowed", headers=headers)
    return ApiError(status, f"{path}: HTTP status {status}", headers=headers)
