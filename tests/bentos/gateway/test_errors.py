"""Errors in OpenAI's shape, as its official client reads them."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from starlette.requests import Request

from bentos.gateway.errors import (
    ApiError,
    events_unavailable,
    http_error,
    overloaded,
    timed_out,
    too_long,
    unavailable,
    unexpected,
)


def request(path: str = "/v1/nothing") -> Request:
    return Request(
        {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "server": ("h", 1)}
    )


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (too_long(), openai.BadRequestError),
        (ApiError(401, "no"), openai.AuthenticationError),
        (http_error(request(), 404), openai.NotFoundError),
        (overloaded("full", 3), openai.RateLimitError),
        (unexpected(), openai.InternalServerError),
        (unavailable("text"), openai.InternalServerError),
        (events_unavailable(), openai.InternalServerError),
        (timed_out(2), openai.InternalServerError),
    ],
)
def test_the_official_client_raises_its_own_class_with_our_words(
    error: ApiError, raised: type[openai.APIStatusError]
) -> None:
    sent = error.response()
    answer = httpx.Response(sent.status_code, content=bytes(sent.body), headers=dict(sent.headers))
    transport = httpx.MockTransport(lambda _: answer)
    client = openai.OpenAI(
        api_key="k", base_url="http://h", max_retries=0, http_client=httpx.Client(transport=transport)
    )
    with pytest.raises(raised) as caught:
        client.models.list()
    assert caught.value.status_code == error.status
    assert caught.value.code == error.code and error.message in caught.value.message


@pytest.mark.parametrize("error", [overloaded("full", 3), unavailable("image"), events_unavailable()])
def test_what_passes_says_when_to_try_again(error: ApiError) -> None:
    assert int(error.response().headers["retry-after"]) > 0


def test_the_router_s_refusals_name_method_and_path() -> None:
    for status, code in ((404, "unknown_url"), (405, "method_not_allowed"), (418, None)):
        body = json.loads(bytes(http_error(request("/v1/x"), status).response().body))
        assert body["error"]["code"] == code
        assert "GET /v1/x" in body["error"]["message"]
