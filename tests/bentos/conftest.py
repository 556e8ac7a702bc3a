"""Real text Bentos, for their own tests and for the gateway's: of the tiny language model, and of an endpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bentos.processes import free_port, process_command, running, workspace
from tests.endpoint_standin import StandIn, endpoint_standin
from tests.tiny_endpoint import write_endpoint


@pytest.fixture(scope="session")
def text_bento(tiny_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = workspace(tmp_path_factory.mktemp("text-bento"))
    environment = {"ATELIER_TEXT_ARTIFACT": str(tiny_export), "ATELIER_DEPLOYMENT": "text-7"}
    command = [sys.executable, "-m", "bentos", "text", "--port", str(port)]
    with running(command, folder, f"{url}/readyz", environment):
        yield url


@pytest.fixture(scope="session")
def api() -> Iterator[StandIn]:
    """The stand-in for an OpenAI-compatible endpoint."""
    with endpoint_standin() as standin:
        yield standin


@pytest.fixture(scope="session")
def endpoint_bento(api: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = workspace(tmp_path_factory.mktemp("endpoint-bento"), request_timeout=3.0)
    artifact = write_endpoint(folder / "artifact", api.url)
    environment = {
        "ATELIER_TEXT_ARTIFACT": str(artifact),
        "ATELIER_DEPLOYMENT": "text-api",
        "ATELIER_ENDPOINT_KEY": "bought",
    }
    with running(process_command("bentos.endpoint.service:EndpointBento", port), folder, f"{url}/readyz", environment):
        yield url
