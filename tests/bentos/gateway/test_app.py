"""The gateway as a process: who may call, and every refusal in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from starlette.types import Message

from bentos.gateway import app as app_module
from bentos.gateway.app import GatewayApp
from bentos.gateway.auth import Keys
from bentos.gateway.exchange import Gateway
from components.api_keys import DEFAULT
from tests.bentos.gateway.conftest import Running, serve_gateway
from tests.bentos.gateway.test_chat import eventually

CHAT = "/v1/chat/completions"
IMAGES = "/v1/images/generations"
MESSAGES = [{"role": "user", "content": "a red boat"}]


def refused(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """The OpenAI error of an answer, once it was found to have this status and a message that holds the words."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for word in words:
        assert word in error["message"]
    assert answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize(("key", "words"), [(None, "no API key"), ("wrong", "not known")])
@pytest.mark.parametrize("path", [CHAT, IMAGES, "/v1/feedback"])
def test_without_a_known_key_nothing_is_done(gateway: Running, path: str, key: str | None, words: str) -> None:
    error = refused(gateway.post(path, key=key, json={}), 401, words)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")


def test_each_configured_key_works(gateway: Running) -> None:
    for key in ("test-key-1", "test-key-2"):
        names = [model.id for model in gateway.client(key).models.list()]
        assert names == ["atelier-text", "atelier-image"]
    with pytest.raises(openai.AuthenticationError):
        gateway.client("test-key-3").models.list()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/", 404),
        ("POST", "/v1/completions", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_unknown_paths_and_methods(gateway: Running, method: str, path: str, status: int) -> None:
    error = refused(httpx.request(method, gateway.url + path), status, path)
    assert error["code"] == {404: "unknown_url", 405: "method_not_allowed"}[status]


BAD_CHATS = {
    "empty prompt": ({"messages": [{"role": "user", "content": ""}]}, 400, "empty"),
    "blank prompt": ({"messages": [{"role": "user", "content": " \n"}]}, 400, "empty"),
    "prompt of 200,001": ({"messages": [{"role": "user", "content": "x" * 200_001}]}, 400, "at most 200000"),
    "prompt is a number": ({"messages": [{"role": "user", "content": 5}]}, 400, "string"),
    "prompt is a picture": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "text"),
    "no messages": ({"messages": []}, 400, "messages"),
    "messages missing": ({"messages": None}, 400, "messages"),
    "many long messages": ({"messages": [{"role": "user", "content": "x" * 50_000}] * 5}, 400, "250000"),
    "n = 0": ({"n": 0}, 400, "n"),
    "temperature -1": ({"temperature": -1}, 400, "temperature"),
    "temperature 2.5": ({"temperature": 2.5}, 400, "temperature"),
    "temperature as a string": ({"temperature": "0.7"}, 400, "temperature"),
    "max_tokens 0": ({"max_tokens": 0}, 400, "max_tokens"),
    "max_tokens 100000": ({"max_tokens": 100_000}, 400, "at most 64"),
    "unknown model": ({"model": "gpt-9"}, 404, "gpt-9"),
    "tools": ({"tools": [{"type": "function"}]}, 400, "tools"),
    "unknown role": ({"messages": [{"role": "wizard", "content": "hi"}]}, 400, "role"),
}


@pytest.mark.parametrize("case", BAD_CHATS)
def test_bad_chat_requests(gateway: Running, case: str) -> None:
    changes, status, words = BAD_CHATS[case]
    body = {"model": "atelier-text", "messages": MESSAGES} | changes
    error = refused(gateway.post(CHAT, json=body), status, words)
    assert error["param"].partition(".")[0] == next(iter(changes))


BAD_IMAGES = {
    "empty prompt": ({"prompt": ""}, 400, "empty"),
    "prompt of 100 kB": ({"prompt": "x" * 100_000}, 400, "4000"),
    "prompt is a list": ({"prompt": ["a"]}, 400, "string"),
    "n = 0": ({"n": 0}, 400, "n"),
    "n = 11": ({"n": 11}, 400, "n"),
    "n = true": ({"n": True}, 400, "n"),
    "size of no model": ({"size": "33x33"}, 400, "32x32"),
    "size not square": ({"size": "32x64"}, 400, "size"),
    "size too large": ({"size": "1024x1024"}, 400, "512x512"),
    "size nonsense": ({"size": "big"}, 400, "size"),
    "urls": ({"response_format": "url"}, 400, "response_format"),
    "seed beyond 64 bits": ({"seed": 2**80}, 400, "seed"),
    "text model": ({"model": "atelier-text"}, 404, "atelier-image"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image_requests(gateway: Running, case: str) -> None:
    changes, status, words = BAD_IMAGES[case]
    error = refused(gateway.post(IMAGES, json={"prompt": "a red boat"} | changes), status, words)
    assert error["param"] == next(iter(changes))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"nonsense", "invalid_json"),
        (b'{"prompt": "\xff"}', "invalid_json"),
        (b'{"prompt": "\\ud800"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"[]", "model_type"),
        (b"null", "model_type"),
    ],
    ids=["empty", "cut", "word", "not UTF-8", "lone surrogate", "deep", "list", "null"],
)
def test_bodies_that_are_no_json_object(gateway: Running, body: bytes, code: str) -> None:
    assert refused(gateway.post(IMAGES, content=body), 400)["code"] == code


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(gateway: Running, number: str) -> None:
    body = '{"model": "atelier-text", "messages": [{"role": "user", "content": "hi"}], "temperature": ' + number + "}"
    assert refused(gateway.post(CHAT, content=body.encode()), 400)["param"] == "temperature"


def test_a_body_over_the_limit_is_refused_unread(gateway: Running) -> None:
    chunked = (b"x" * 65_536 for _ in range(24))
    for body in (b"x" * 1_300_000, chunked):
        assert refused(gateway.post(IMAGES, content=body), 413, "1265536")["code"] == "body_too_large"


def test_half_a_request_does_not_harm_the_next(gateway: Running) -> None:
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=5) as connection:
        head = f"POST {IMAGES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key-1\r\ncontent-length: 500\r\n\r\n"
        connection.sendall(head.encode() + b'{"prompt"')
    assert gateway.post(IMAGES, json={"prompt": "a red boat"}).status_code == 200


async def test_28_half_a_body_ends_in_the_shape_of_every_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_SECONDS", 0.01)
    app = GatewayApp()
    app.gateway = cast(Gateway, SimpleNamespace(keys=Keys({"k": DEFAULT}, "secret")))
    parts: list[Message] = [{"type": "http.request", "body": b'{"prompt"', "more_body": True}]
    sent: list[Message] = []

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer k")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    start, body = sent
    assert start["status"] == 408 and (b"connection", b"close") in start["headers"]
    assert set(json.loads(body["body"])["error"]) == {"message", "type", "param", "code"}


def test_28_what_is_no_http_is_refused_in_the_shape_of_every_refusal(gateway: Running) -> None:
    address = urlsplit(gateway.url)
    head = b"POST /v1/images/generations HTTP/1.1\r\nauthorization: Bearer test-key-1\r\n"
    for request in (b"nonsense\r\n\r\n", head + b"transfer-encoding: chunked\r\n\r\nno chunk\r\n\r\n"):
        with socket.create_connection((address.hostname, address.port or 80), timeout=20) as connection:
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 400")
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}


async def test_a_client_who_leaves_before_an_answer_frees_the_request() -> None:
    app = GatewayApp()
    app.gateway = cast(Gateway, SimpleNamespace(keys=Keys({"k": DEFAULT}, "secret")))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer k")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    assert [message.get("status") for message in sent] == [499, None]  # BentoML waits for the first message


def test_a_known_model_can_be_retrieved(gateway: Running) -> None:
    assert gateway.client().models.retrieve("atelier-image").id == "atelier-image"
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        gateway.client().models.retrieve("gpt-9")


def test_health_and_metrics(gateway: Running) -> None:
    assert gateway.post(IMAGES, json={"prompt": "a red boat", "n": 2}).status_code == 200
    assert httpx.get(f"{gateway.url}/healthz").status_code == 200
    assert httpx.get(f"{gateway.url}/readyz").status_code == 200
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'atelier_requests_total{experiment="",line="image",outcome="ok",status="200",variant=""}' in metrics
    for name in ("atelier_request_seconds_bucket", "atelier_queue_depth", "atelier_batch_size_sum", "atelier_images"):
        assert name in metrics


def series(gateway: Running) -> set[str]:
    """All series of the gateway, without their values."""
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def strange_requests(gateway: Running, name: str) -> None:
    """One of everything that a client can choose the words of."""
    for method, path in (("GET", f"/{name}"), ("POST", f"/v1/{name}"), (name, CHAT), ("GET", f"/v1/models/{name}")):
        httpx.request(method, gateway.url + path, headers={"authorization": "Bearer test-key-1"}, timeout=20)
    gateway.post(CHAT, key=name, json={})
    gateway.post(CHAT, json={"model": name, "messages": MESSAGES})
    gateway.post(CHAT, json={"model": "atelier-text", "messages": MESSAGES, name: 1})
    gateway.post(CHAT, json={"model": "atelier-text", "messages": MESSAGES, "temperature": 0.5, "user": name})
    gateway.post(IMAGES, json={"prompt": f"FAIL {name}", "user": name})
    gateway.post("/v1/feedback", json={"request_id": name, "kind": name, "value": 1.0})


def test_no_client_can_add_series(gateway: Running) -> None:
    strange_requests(gateway, "first")
    before = series(gateway)
    for index in range(20):
        strange_requests(gateway, f"another{index}")
    assert series(gateway) == before
    assert len(before) < 300


def test_33_a_gateway_that_runs_follows_the_keys_of_its_file(standin: str, tmp_path: Path) -> None:
    file = tmp_path / "accepted-keys"
    file.write_text("default:first,default:second")
    variables = {"ATELIER_API_KEYS_FILE": str(file)}
    with serve_gateway(tmp_path, standin, f"{standin}/text", f"{standin}/image", variables=variables) as gateway:

        def statuses() -> list[int]:
            headers = [{"authorization": f"Bearer {key}"} for key in ("first", "second")]
            return [httpx.get(f"{gateway.url}/v1/models", headers=one, timeout=5).status_code for one in headers]

        assert statuses() == [200, 200]
        file.write_text("second")
        assert eventually(lambda: statuses() == [401, 200])
