"""`/readyz` of a running gateway while the Bentos behind it come up."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import httpx
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.bentos.gateway.conftest import serve_gateway
from tests.bentos.processes import running


def test_not_ready_is_a_503_that_names_the_line_until_its_bento_answers(standin: str, tmp_path: Path) -> None:
    with socket.socket() as loading:
        loading.bind(("127.0.0.1", 0))
        loading.listen()  # a Bento whose model still loads: it is connected to, and does not answer
        port = loading.getsockname()[1]
        image = f"http://127.0.0.1:{port}"
        with serve_gateway(tmp_path / "gateway", standin, f"{standin}/text", f"{image}/image", "/livez") as gateway:
            not_ready(httpx.get(f"{gateway.url}/readyz", timeout=20))
            loading.close()
            not_ready(httpx.get(f"{gateway.url}/readyz", timeout=20))
            (tmp_path / "image").mkdir()
            command = [sys.executable, "-m", "tests.bentos.standin", str(port)]
            with running(command, tmp_path / "image", f"{image}/log", {}):
                for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(0.1), reraise=True):
                    with attempt:  # the gateway asks again within a second or two
                        httpx.get(f"{gateway.url}/readyz", timeout=20).raise_for_status()


def not_ready(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("server_error", "model_unavailable")
    assert error["message"].startswith("the image model does not answer")
    assert int(answer.headers["retry-after"]) > 0
