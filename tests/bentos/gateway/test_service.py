"""The gateway Bento's start: where its models are, and what its own environment must hold."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from bentoml.exceptions import BentoMLException

from bentos.gateway.service import PARAMS, GatewayBento, upstream_urls
from tests.bentos.gateway.conftest import KEY, named_standin, serve_gateway
from tests.bentos.gateway.test_chat import eventually
from tests.bentos.processes import answering


def test_models_are_where_the_environment_says_else_on_this_machines_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATELIER_IMAGE_URL", raising=False)
    monkeypatch.setenv("ATELIER_TEXT_URL", "http://text:1,http://text:2")
    serving = PARAMS.serving
    here = [f"http://{serving.host}:{port}" for port in (serving.image_port, serving.image_b_port)]
    assert upstream_urls() == {"text": ["http://text:1", "http://text:2"], "image": here}


@pytest.mark.parametrize("missing", ["ATELIER_API_KEYS", "ATELIER_USER_SECRET", "ATELIER_ENGINE_TOKEN"])
def test_it_is_refused_before_any_worker_starts(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for variable in ("ATELIER_API_KEYS", "ATELIER_USER_SECRET"):
        monkeypatch.setenv(variable, "something")
    GatewayBento.inner.check()
    monkeypatch.delenv(missing)
    with pytest.raises(BentoMLException, match=f"{missing} is empty"):
        GatewayBento.inner.check()


def refused(url: str) -> bool:
    """Whether nobody listens there any more."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port or 80), timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_28_after_sigterm_work_finishes_and_new_connections_are_refused_at_once(tmp_path: Path) -> None:
    with named_standin(tmp_path / "models", "slow") as models:
        lines = f"{models}/text", f"{models}/image"
        with serve_gateway(tmp_path / "gateway", models, *lines) as gateway:
            headers = {"authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:
                (await client.post(f"{models}/mode", content="slow")).raise_for_status()
                chat = {"model": "atelier-text", "messages": [{"role": "user", "content": "a boat"}]}
                holding = asyncio.create_task(client.post("/v1/images/generations", json={"prompt": "HOLD"}))
                working = asyncio.create_task(client.post("/v1/chat/completions", json=chat))
                assert await asyncio.to_thread(eventually, lambda: len(gateway.log()["jobs"]) == 2)
                os.kill(os.getsid(answering(gateway.url)), signal.SIGTERM)
                assert await asyncio.to_thread(eventually, lambda: refused(gateway.url))
                assert not holding.done()
                assert (await working).status_code == 200
                holding.cancel()
