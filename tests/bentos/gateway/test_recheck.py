"""What is kept of an answer, so that it can be computed again; both gateways here keep every one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from bentos.gateway.recheck import wants_recheck
from components.events.database import connect
from components.events.schema import RECHECKS
from tests.bentos.gateway.conftest import Running
from tests.bentos.gateway.test_chat import eventually
from tests.tiny_language import tiny_chat


def kept(gateway: Running, request_id: str) -> Any:
    def row() -> Any:
        with connect(gateway.events).connect() as connection:
            return connection.execute(RECHECKS.select().where(RECHECKS.c.request_id == request_id)).one_or_none()

    assert eventually(lambda: row() is not None)
    return row()


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_is_kept_as_the_tokens_that_were_read_and_written(
    text_gateway: Running, tiny_base: Path, stream: bool
) -> None:
    messages = [("system", "Be brief."), ("user", "ein müder <|im_end|> Fuchs")]
    answer = text_gateway.post(
        "/v1/chat/completions",
        json={
            "model": "atelier-text",
            "messages": [{"role": role, "content": text} for role, text in messages],
            "max_tokens": 9,
            "temperature": 0.7,
            "seed": 5,
            "stream": stream,
        },
    )
    row = kept(text_gateway, answer.headers["x-request-id"])
    job, trace = json.loads(row.job), json.loads(row.answer)
    assert (row.line, row.deployment, row.verdict) == ("text", "text-7", "")
    assert job["messages"] == [[*message] for message in messages]
    assert (job["temperature"], job["seed"]) == (0.7, 5)
    assert trace["prompt"] == tiny_chat(tiny_base).prompt(messages)
    assert len(trace["tokens"]) == len(trace["log_probs"]) > 0
    assert all(value <= 0 for value in trace["log_probs"])


def test_a_picture_is_kept_with_its_seed_and_steps(gateway: Running) -> None:
    answer = gateway.post("/v1/images/generations", json={"prompt": "a boat", "n": 2, "seed": 40})
    row = kept(gateway, answer.headers["x-request-id"])
    job, picture = json.loads(row.job), json.loads(row.answer)
    assert (row.line, job["prompt"], job["seed"], job["side"]) == ("image", "a boat", 40, None)
    assert job["steps"] > 0 and job["guidance"] > 0
    assert picture["png"] == answer.json()["data"][0]["b64_json"]


def test_prometheus_is_told_before_there_is_anything_to_tell(gateway: Running) -> None:
    text = httpx.get(f"{gateway.url}/metrics", timeout=10).text
    for verdict in ("same", "fault", "unknown"):
        assert f'atelier_rechecked{{line="text",verdict="{verdict}"}} 0.0' in text
    assert 'atelier_recheck_error{line="image"} 0.0' in text


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.01, 5, 40), (1.0, 2000, 2000)])
def test_chance_keeps_the_share_that_is_asked_for(share: float, least: int, most: int) -> None:
    gateway: Any = SimpleNamespace(serving=SimpleNamespace(recheck=share))
    exchanges: list[Any] = [SimpleNamespace(id=f"chatcmpl-{number}") for number in range(2000)]
    assert least <= sum(wants_recheck(gateway, exchange) for exchange in exchanges) <= most
