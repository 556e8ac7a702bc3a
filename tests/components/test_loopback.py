"""With a proxy in the environment, every client of ours still reaches this machine's own servers directly."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import httpx
import pytest
import requests

from components import telemetry
from components.config import Registry
from components.loopback import OWN_ADDRESSES, bypass_proxies
from components.registry.connection import connect

ROOT = Path(__file__).resolve().parents[2]
PROXIES = [spelling for name in ("http_proxy", "https_proxy", "all_proxy") for spelling in (name, name.upper())]


class Server:
    """An HTTP server that answers each request with `status` and an empty object, and keeps what it was asked."""

    def __init__(self, status: int) -> None:
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.requestline)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_CONNECT = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def serving(status: int) -> Iterator[Server]:
    server = Server(status)
    thread = Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A proxy that refuses everything, as the environment of a company names it."""
    with serving(403) as server:
        for name in PROXIES:
            monkeypatch.setenv(name, server.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, ".company.example")
        yield server


def by_aiohttp(url: str) -> None:
    import aiohttp

    async def get() -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            answer.raise_for_status()

    asyncio.run(get())


def by_prefect(url: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    async def get() -> None:
        async with get_client() as client:
            await client._client.get("/health")

    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        asyncio.run(get())


def by_mlflow(url: str) -> None:
    with connect(Registry(tracking_uri=url, artifact_root="a", experiment="e")) as client:
        client.search_experiments()


def by_label_studio(url: str) -> None:
    from label_studio_sdk import LabelStudio

    list(LabelStudio(base_url=url, api_key="k").projects.list())


def by_openai(url: str) -> None:
    from openai import OpenAI

    OpenAI(base_url=url, api_key="k", max_retries=0).models.list()


def by_opentelemetry(url: str) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    OTLPSpanExporter(endpoint=url).export([])


CLIENTS: dict[str, Callable[[str], object]] = {
    "urllib": lambda url: urlopen(url).close(),
    "requests": lambda url: requests.get(url, timeout=5).raise_for_status(),
    "httpx": lambda url: httpx.get(url).raise_for_status(),
    "aiohttp": by_aiohttp,
    "prefect": by_prefect,
    "mlflow": by_mlflow,
    "label studio": by_label_studio,
    "openai": by_openai,
    "opentelemetry": by_opentelemetry,
}


@pytest.mark.parametrize("name", CLIENTS)
def test_36_no_client_sends_what_is_for_this_machine_through_a_proxy(name: str, proxy: Server) -> None:
    bypass_proxies()
    with serving(200) as server:
        for host in ("127.0.0.1", "localhost"):
            CLIENTS[name](server.url.replace("127.0.0.1", host))
        assert len(server.requests) >= 2
    assert proxy.requests == []


def test_36_what_is_for_others_still_goes_through_the_users_proxy(proxy: Server) -> None:
    bypass_proxies()
    assert httpx.get("http://models.elsewhere.example/").status_code == 403
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["socks", "socks5", "socks5h"])
def test_36_a_socks_proxy_keeps_nobody_from_this_machine(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    bypass_proxies()
    with serving(200) as server:
        for name in ("httpx", "requests", "urllib"):
            CLIENTS[name](server.url)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, list(OWN_ADDRESSES)),
        ({"no_proxy": "a.example, 10.0.0.0/8"}, ["a.example", "10.0.0.0/8", *OWN_ADDRESSES]),
        ({"no_proxy": "a", "NO_PROXY": "b,a"}, ["a", "b", *OWN_ADDRESSES]),
        ({"NO_PROXY": "localhost"}, ["localhost", "127.0.0.1", "::1", "0.0.0.0"]),
        ({"no_proxy": "*"}, ["*"]),
    ],
)
def test_36_the_users_own_exceptions_stay(given: dict[str, str], expected: list[str]) -> None:
    environment = dict(given)
    for _ in range(2):  # a program that a program of ours has started
        bypass_proxies(environment)
        assert environment["no_proxy"] == environment["NO_PROXY"] == ",".join(expected)


@pytest.mark.parametrize("package", ["flows.environment", "bentos.calls", "monitoring.probes", "components.stage"])
def test_36_every_entry_point_has_the_exceptions_and_hands_them_on(package: str) -> None:
    tell = "import os; print(os.environ['no_proxy'])"
    code = f"import {package}, subprocess, sys; subprocess.run([sys.executable, '-c', {tell!r}], check=True)"
    bare = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=True)
    assert set(ended.stdout.strip().split(",")) == set(OWN_ADDRESSES)


REPORTING = """
import components
import torch
from pathlib import Path
import onnxruntime
from components.export.onnx import export_onnx
from components.export.openvino import export_openvino
graph = Path("linear.onnx")
export_onnx(torch.nn.Linear(3, 2), {"x": torch.zeros(2, 3)}, "y", graph)
export_openvino(graph, Path("linear.xml"), None)
onnxruntime.InferenceSession(graph)
"""


def test_36_the_engines_report_nothing_to_their_makers(tmp_path: Path) -> None:
    with serving(403) as proxy:
        quiet = {name: value for name, value in os.environ.items() if name not in telemetry.OFF}
        variables = quiet | dict.fromkeys(PROXIES, proxy.url) | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", REPORTING], cwd=tmp_path, env=variables, check=True, timeout=120)
    assert proxy.requests == []
