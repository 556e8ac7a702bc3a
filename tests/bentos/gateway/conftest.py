"""A real gateway Bento over the stand-in for the model Bentos, and one over a real text Bento."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from components.config import load
from tests.bentos.processes import ROOT, free_port, process_command, running, workspace
from tests.components.experiments.examples import in_force

KEY = "test-key-1"
TENANT_KEY = "key-of-acme"
CONCURRENCY, QUEUE, TOP_P = 3, 2, 0.9


@dataclass(frozen=True)
class Running:
    """Where the gateway, its stand-in upstream and its event database are."""

    url: str
    upstream: str
    events: str

    def client(self, key: str = KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=20)

    def post(self, path: str, *, key: str | None = KEY, **request: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        return httpx.post(f"{self.url}{path}", headers=headers, timeout=20, **request)  # type: ignore[arg-type]

    def log(self) -> dict[str, list[object]]:
        answer: dict[str, list[object]] = httpx.get(f"{self.upstream}/log", timeout=5).json()
        return answer


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.bentos.standin", str(port)]
    with running(command, tmp_path_factory.mktemp("standin"), f"{url}/log", {}):
        yield url


@contextmanager
def named_standin(folder: Path, name: str) -> Iterator[str]:
    """A stand-in that claims to serve text-<name> and image-<name>, until the block ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder.mkdir()
    with running([sys.executable, "-m", "tests.bentos.standin", str(port), name], folder, f"{url}/log", {}):
        yield url


@contextmanager
def serve_gateway(
    folder: Path,
    standin: str,
    text: str,
    image: str,
    awaited: str = "/readyz",
    events: str = "",
    service: str = "bentos.gateway.service:GatewayBento",
    variables: Mapping[str, str] | None = None,
    experiment: Mapping[str, Any] | None = None,
    **serving: float,
) -> Iterator[Running]:
    """A gateway in front of the Bentos at `text` and `image`, until the block ends; its experiment is in force."""
    workspace(folder, experiment, **{"max_concurrency": CONCURRENCY, "max_queue": QUEUE, "text_top_p": TOP_P} | serving)
    events = events or f"sqlite:///{folder / 'events.db'}"
    in_force(events, *load(folder / "params.yaml").experiments)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "ATELIER_API_KEYS": f"default:{KEY}, default:test-key-2, acme:{TENANT_KEY}",
        "ATELIER_USER_SECRET": "a secret of tests",
        "ATELIER_EVENTS_URL": events,
        "ATELIER_TEXT_URL": text,
        "ATELIER_IMAGE_URL": image,
        **(variables or {}),
    }
    with running(process_command(service, port), folder, f"{url}{awaited}", environment):
        yield Running(url, standin, events)


@pytest.fixture(scope="session")
def gateway(standin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Both lines made up."""
    folder = tmp_path_factory.mktemp("gateway")
    with serve_gateway(folder, standin, f"{standin}/text", f"{standin}/image", recheck=1.0) as served:
        yield served


@pytest.fixture(scope="session")
def text_gateway(standin: str, text_bento: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The text line real: a gateway, a text Bento and a tiny model that holds 512 tokens, one per byte."""
    folder = tmp_path_factory.mktemp("text-gateway")
    with serve_gateway(folder, standin, text_bento, f"{standin}/image", recheck=1.0) as served:
        yield served


__all__ = ["ROOT", "Running", "gateway", "named_standin", "serve_gateway", "standin", "text_gateway"]
