"""A real text Bento that serves the tiny language model, for its own tests and for the gateway's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bentos.processes import free_port, process_command, running, workspace


@pytest.fixture(scope="session")
def text_bento(tiny_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = workspace(tmp_path_factory.mktemp("text-bento"))
    environment = {"ATELIER_TEXT_ARTIFACT": str(tiny_export), "ATELIER_DEPLOYMENT": "text-7"}
    with running(process_command("text", port), folder, f"{url}/readyz", environment):
        yield url
