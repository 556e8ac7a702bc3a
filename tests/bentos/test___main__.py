"""`python -m bentos`: what it refuses, in one line, before BentoML starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tests.bentos.processes import ROOT, free_port


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bentos", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=90, check=False
    )


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = serve("gateway", "--port", str(port), ATELIER_API_KEYS="k")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: port {port} of 127.0.0.1 cannot be used: Address already in use")
    assert "Traceback" not in ended.stderr


def test_an_unknown_bento_is_refused() -> None:
    ended = serve("audio")
    assert ended.returncode == 1
    assert "text, endpoint, image, gateway" in ended.stderr


def test_a_gateway_without_keys_does_not_start() -> None:
    ended = serve("gateway", "--port", str(free_port()), ATELIER_API_KEYS=" , ")
    assert ended.returncode == 1
    assert "ATELIER_API_KEYS is empty" in ended.stderr


def test_a_gateway_without_a_secret_for_its_users_does_not_start() -> None:
    ended = serve("gateway", "--port", str(free_port()), ATELIER_API_KEYS="k", ATELIER_USER_SECRET=" ")
    assert ended.returncode == 1
    assert "ATELIER_USER_SECRET is empty: set it to a long random text" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_model_bento_without_an_artifact_does_not_start() -> None:
    ended = serve("image", "--port", str(free_port()), ATELIER_IMAGE_ARTIFACT="/nonexistent")
    assert ended.returncode == 1
    assert "/nonexistent" in ended.stderr
