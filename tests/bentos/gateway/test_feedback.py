"""Feedback: stored before it is acknowledged, once per idempotency key and user."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from components.events.database import connect
from components.events.schema import FEEDBACK
from tests.bentos.gateway.conftest import Running


def send(gateway: Running, **changes: Any) -> httpx.Response:
    body = {"request_id": "chatcmpl-1", "kind": "like", "value": 1} | changes
    return gateway.post("/v1/feedback", json=body)


def stored(gateway: Running, request_id: str) -> int:
    with connect(gateway.events).connect() as connection:
        return len(connection.execute(FEEDBACK.select().where(FEEDBACK.c.request_id == request_id)).all())


def test_a_repeated_key_counts_once(gateway: Running) -> None:
    answers = [send(gateway, request_id="chatcmpl-a", key="k1", user="ann") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert send(gateway, request_id="chatcmpl-a", key="k1", user="bob").status_code == 201
    assert stored(gateway, "chatcmpl-a") == 2


def test_without_a_key_every_reaction_counts(gateway: Running) -> None:
    for _ in range(2):
        assert send(gateway, request_id="chatcmpl-b", user="ann").status_code == 201
    assert stored(gateway, "chatcmpl-b") == 2


@pytest.mark.parametrize("wrong", [{"kind": "Like it!"}, {"value": "1"}, {"value": None}, {"request_id": ""}])
def test_bad_feedback_is_refused(gateway: Running, wrong: dict[str, Any]) -> None:
    answer = send(gateway, **wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(wrong))
