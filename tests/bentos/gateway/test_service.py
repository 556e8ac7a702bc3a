"""The gateway Bento's start: where its models are, and what its own environment must hold."""

from __future__ import annotations

import pytest
from bentoml.exceptions import BentoMLException

from bentos.gateway.service import PARAMS, GatewayBento, upstream_urls


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
