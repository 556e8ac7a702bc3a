"""A real Label Studio server for the session: installed once from its lock, on a free loopback port."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows import labelling_server
from flows.program_environment import LABEL_STUDIO


@dataclass(frozen=True)
class Server:
    url: str
    token: str


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one account, whose token is `token`."""
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", secrets.token_hex(20))
    own = LABEL_STUDIO | labelling_server.account(server.token, secrets.token_hex(8))
    command = labelling_server.command(port, folder / "data")
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | own, stdout=output, stderr=subprocess.STDOUT)
        try:
            await_answer(server.url, process, log)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path, limit: float = 240.0) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)  # polling another process: there is nothing to wait on
    raise AssertionError(f"Label Studio did not answer at {url}; its log ends:\n{log.read_text()[-2000:]}")
