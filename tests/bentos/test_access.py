"""Who may ask a model Bento, tried on a real one."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from bentos.access import OPEN
from components import engine_token

JOB = b'{"messages": [["user", "a red boat"]], "max_new_tokens": 2, "temperature": 0}'


@pytest.mark.parametrize("given", [None, "Bearer guess", "Basic YTpi", f"Basic {engine_token.headers()}"])
@pytest.mark.parametrize("path", ["/generate", "/stream", "/info", "/metrics", "/schema.json", "/", "/nothing"])
def test_31_without_the_token_nothing_is_answered(text_bento: str, path: str, given: str | None) -> None:
    headers = {"content-type": "application/json"} | ({"authorization": given} if given else {})
    for method in ("GET", "POST", "OPTIONS"):
        answer = httpx.request(method, text_bento + path, content=JOB, headers=headers, timeout=60)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_31_a_refusal_waits_for_no_body(text_bento: str) -> None:
    address = urlsplit(text_bento)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 401"


@pytest.mark.parametrize("content", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize("path", ["/generate", "/stream", "/info"])
def test_31_what_a_web_page_can_send_unasked_is_refused(text_bento: str, path: str, content: str) -> None:
    headers = engine_token.headers() | ({"content-type": content} if content else {})
    assert httpx.post(text_bento + path, content=JOB, headers=headers, timeout=60).status_code == 415
    headers["content-type"] = "application/json; charset=utf-8"
    assert (
        httpx.post(
            text_bento + path, content=JOB if path != "/info" else b"{}", headers=headers, timeout=60
        ).status_code
        == 200
    )


def test_31_whether_it_lives_anybody_may_ask(text_bento: str) -> None:
    assert {httpx.get(text_bento + path).status_code for path in OPEN} == {200}
    assert httpx.post(text_bento + "/livez", content=JOB).status_code == 401


def test_31_a_bento_listens_on_its_own_port_alone(text_bento: str) -> None:
    port = urlsplit(text_bento).port
    listening = [one for one in psutil.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    (serving,) = [psutil.Process(one.pid) for one in listening if one.laddr.port == port]
    family = {serving.pid, *(child.pid for child in serving.children(recursive=True)), serving.ppid()}
    family -= {psutil.Process().pid}  # in place of a master of BentoML's, the tests
    assert [one.laddr.port for one in listening if one.pid in family] == [port]
