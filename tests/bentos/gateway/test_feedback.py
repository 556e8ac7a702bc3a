"""Feedback: by who was answered, stored before it is acknowledged, once per idempotency key, whatever clocks say."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from bentos.gateway.feedback import MAX_REACTIONS, dated
from components.events import window
from components.events.database import connect
from components.events.read import feedback_on, request
from components.events.schema import ACCEPTED, FEEDBACK
from tests.bentos.gateway.conftest import KEY, TENANT_KEY, Running, serve_gateway


def answered(gateway: Running, user: str | None = None, **body: Any) -> str:
    """The id of a response that was just given."""
    asked = {"prompt": "a red boat"} | ({"user": user} if user else {}) | body
    return str(gateway.post("/v1/images/generations", json=asked).headers["x-request-id"])


def send(gateway: Running, request_id: str, **changes: Any) -> httpx.Response:
    body = {"request_id": request_id, "kind": "like", "value": 1} | changes
    return gateway.post("/v1/feedback", json=body)


def rows(gateway: Running, request_id: str) -> list[dict[str, Any]]:
    return feedback_on(gateway.events, request_id)


def counted(gateway: Running, request_id: str) -> dict[str, Any]:
    """What counts of each kind for one response, as every reader of the events sees it."""
    with connect(gateway.events).connect() as connection:
        last = window.standing(FEEDBACK.c.request_id == request_id)
        return {row.kind: row.value for row in connection.execute(select(last).where(last.c.rank == 1))}


def test_a_repeated_key_counts_once(gateway: Running) -> None:
    given = answered(gateway, "ann")
    answers = [send(gateway, given, key="k1", user="ann") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert [answer.json()["new"] for answer in answers] == [True, False]
    assert len(rows(gateway, given)) == 1


def test_a_key_used_again_for_something_else_swallows_nothing(gateway: Running) -> None:
    given, another = answered(gateway, "ann"), answered(gateway, "ann")
    assert send(gateway, given, key="k2", user="ann").status_code == 201
    assert send(gateway, given, key="k2", user="ann", kind="save").status_code == 201
    assert send(gateway, another, key="k2", user="ann").status_code == 201


@pytest.mark.parametrize("forger", [{"user": "eve"}, {}, {"user": "ann", "key": "k"}])
def test_feedback_on_another_users_response_is_refused(gateway: Running, forger: dict[str, str]) -> None:
    given = answered(gateway, "bob")
    answer = send(gateway, given, **forger)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_your_response")
    assert rows(gateway, given) == []


def test_of_a_changed_mind_the_newest_counts_in_whatever_order_it_arrives(gateway: Running) -> None:
    given = answered(gateway, "ann")
    asked = request(gateway.events, given)["time"]  # type: ignore[index]
    # Taken back, then liked again, and delivered the wrong way round.
    for value, after in ((1, 2e-6), (0, 1e-6)):
        assert send(gateway, given, user="ann", value=value, time=asked + after).status_code == 201
    assert send(gateway, given, user="ann", kind="dwell", value=12.5).status_code == 201
    assert counted(gateway, given) == {"like": 1.0, "dwell": 12.5}
    assert len(rows(gateway, given)) == 3


def test_a_client_s_clock_that_jumps_is_clamped_and_noted(gateway: Running) -> None:
    given, began = answered(gateway, "ann"), time.time()
    for told in (began + 1e6, began - 1e6, began):
        assert send(gateway, given, user="ann", time=told).status_code == 201
    stored = rows(gateway, given)
    assert {row["clock"] for row in stored} == {"ahead", "before", ""}
    assert all(began - 10 < row["time"] <= row["received"] for row in stored)


def test_a_gateway_s_clock_that_jumps_back_never_dates_a_reaction_before_its_request() -> None:
    assert dated(None, asked=100.0, now=40.0) == (100.0, "before")
    assert dated(200.0, asked=100.0, now=40.0) == (100.0, "ahead")
    assert dated(120.0, asked=100.0, now=150.0) == (120.0, "")


def test_feedback_that_comes_too_late_is_refused(gateway: Running) -> None:
    given = answered(gateway, "ann")
    with connect(gateway.events).begin() as connection:
        mine = ACCEPTED.c.request_id == given
        connection.execute(ACCEPTED.update().where(mine).values(time=time.time() - 8 * 86_400))
    answer = send(gateway, given, user="ann")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "feedback_too_late")
    assert "8.0 days old; feedback is taken for 7 days" in answer.json()["error"]["message"]
    assert rows(gateway, given) == []


def test_another_gateway_over_the_same_database_takes_feedback_at_once(
    gateway: Running, standin: str, tmp_path: Path
) -> None:
    with serve_gateway(tmp_path, standin, f"{standin}/text", f"{standin}/image", events=gateway.events) as other:
        assert send(other, answered(gateway, "ann"), user="ann").status_code == 201


def test_of_metadata_only_listed_segments_are_stored(gateway: Running) -> None:
    told = {"plan": "paid", "email": "ann@example.org"}
    assert request(gateway.events, answered(gateway, metadata=told))["segments"] == '{"plan": "paid"}'  # type: ignore[index]
    messages: Any = [{"role": "user", "content": "a red boat"}]
    metadata = {"plan": "gold" * 9}
    chat = gateway.client().chat.completions.create(model="atelier-text", messages=messages, metadata=metadata)
    assert request(gateway.events, chat.id)["segments"] == '{"plan": "other"}'  # type: ignore[index]


@pytest.mark.parametrize("metadata", [{"plan": 1}, {"plan": "x" * 513}, {f"k{i}": "" for i in range(17)}, "paid"])
def test_metadata_beyond_its_bounds_is_refused(gateway: Running, metadata: Any) -> None:
    answer = gateway.post("/v1/images/generations", json={"prompt": "a boat", "metadata": metadata})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("metadata")


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
    assert rows(gateway, unknown) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "adore"},
        {"value": "1"},
        {"value": None},
        {"value": 0.5},
        {"value": 2},
        {"value": -1, "kind": "dwell"},
        {"value": 86_401, "kind": "dwell"},
        {"request_id": ""},
        {"time": -1},
        {"time": "now"},
    ],
)
def test_bad_feedback_is_refused(gateway: Running, wrong: dict[str, Any]) -> None:
    answer = send(gateway, **({"request_id": "chatcmpl-1"} | wrong))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(wrong))


async def test_28_a_response_takes_only_so_many_reactions(gateway: Running) -> None:
    given, headers = answered(gateway, "ann"), {"authorization": f"Bearer {KEY}"}
    first = {"request_id": given, "kind": "like", "value": 1, "user": "ann", "key": "first"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:
        assert (await client.post("/v1/feedback", json=first)).status_code == 201
        for _ in range(MAX_REACTIONS - 3):
            assert (await client.post("/v1/feedback", json=first | {"key": None})).status_code == 201
        many = [client.post("/v1/feedback", json=first | {"key": None}) for _ in range(50)]  # for the last two places
        statuses = {answer.status_code for answer in await asyncio.gather(*many)}
        assert 429 in statuses and statuses <= {201, 429}
        assert (await client.post("/v1/feedback", json=first)).status_code == 200  # is stored already
        while (answer := await client.post("/v1/feedback", json=first | {"key": None})).status_code == 201:
            pass  # those at once made room for each other
    assert answer.json()["error"]["code"] == "too_many_reactions"
    assert len(rows(gateway, given)) == MAX_REACTIONS
    assert send(gateway, answered(gateway, "ann"), user="ann").status_code == 201


def test_33_a_tenants_user_may_not_rate_what_another_tenants_user_of_that_name_was_answered(gateway: Running) -> None:
    given = answered(gateway, "1")
    body = {"request_id": given, "kind": "like", "value": 0, "user": "1"}
    assert gateway.post("/v1/feedback", key=TENANT_KEY, json=body).status_code == 403
    assert gateway.post("/v1/feedback", key="test-key-2", json=body).status_code == 201  # of the same tenant
