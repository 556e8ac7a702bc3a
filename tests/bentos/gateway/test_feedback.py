"""Feedback: on answers that were given, stored before it is acknowledged, once per idempotency key and user."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from components.events.database import connect
from components.events.schema import FEEDBACK
from tests.bentos.gateway.conftest import Running


def answered(gateway: Running) -> str:
    """The id of a response that was just given."""
    answer = gateway.post("/v1/images/generations", json={"prompt": "a red boat"})
    return str(answer.headers["x-request-id"])


def send(gateway: Running, request_id: str, **changes: Any) -> httpx.Response:
    body = {"request_id": request_id, "kind": "like", "value": 1} | changes
    return gateway.post("/v1/feedback", json=body)


def stored(gateway: Running, request_id: str) -> int:
    with connect(gateway.events).connect() as connection:
        return len(connection.execute(FEEDBACK.select().where(FEEDBACK.c.request_id == request_id)).all())


def test_a_repeated_key_counts_once(gateway: Running) -> None:
    given = answered(gateway)
    answers = [send(gateway, given, key="k1", user="ann") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert [answer.json()["new"] for answer in answers] == [True, False]
    assert send(gateway, given, key="k1", user="bob").status_code == 201
    assert stored(gateway, given) == 2


def test_without_a_key_every_reaction_counts(gateway: Running) -> None:
    given = answered(gateway)
    for value in (1, 0, 1):  # a changed mind, twice
        assert send(gateway, given, user="ann", value=value).status_code == 201
    assert stored(gateway, given) == 3


def test_a_chat_answer_is_known_by_its_id(gateway: Running) -> None:
    messages: Any = [{"role": "user", "content": "a red boat"}]
    completion = gateway.client().chat.completions.create(model="atelier-text", messages=messages)
    assert send(gateway, completion.id).status_code == 201


@pytest.mark.parametrize("unknown", ["chatcmpl-0", "req-0", "' OR 1=1 --", "\x00", "x" * 200])
def test_feedback_on_what_was_never_answered_is_a_404(gateway: Running, unknown: str) -> None:
    answer = send(gateway, unknown)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("request_id", "response_not_found")
    assert "no response" in error["message"] and unknown in error["message"]
    assert stored(gateway, unknown) == 0


@pytest.mark.parametrize("wrong", [{"kind": "Like it!"}, {"value": "1"}, {"value": None}, {"request_id": ""}])
def test_bad_feedback_is_refused(gateway: Running, wrong: dict[str, Any]) -> None:
    answer = send(gateway, **({"request_id": "chatcmpl-1"} | wrong))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(wrong))
