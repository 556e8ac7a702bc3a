"""An endpoint (a stand-in) as champion behind a real gateway, and a tiny model of one's own that takes its place."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import openai
import pytest
from sqlalchemy import Engine

from components.config import load
from components.events.database import opened
from components.events.read import record_deployment
from components.events.schema import hash_user
from components.releases import store
from components.releases.leases import held
from components.releases.machine import State
from components.releases.plan import chooses_candidate, traffic_plan
from flows import canary
from monitoring.deployments import answered
from tests.bentos.gateway.conftest import Running, serve_gateway
from tests.bentos.gateway.test_chat import eventually
from tests.components.events.examples import DEPLOYMENT, read
from tests.components.releases.examples import NOTE, release_directly
from tests.endpoint_standin import StandIn
from tests.tiny_endpoint import PRICE

OWN, API = "text-7", "text-api"


@dataclass(frozen=True)
class Trial:
    gateway: Running
    api: StandIn
    engine: Engine

    def ask(self, user: str) -> httpx.Response:
        body = {"model": "atelier-text", "messages": [{"role": "user", "content": "a boat"}], "user": user}
        return self.gateway.post("/v1/chat/completions", json=body | {"max_tokens": 8})

    def user_of(self, candidate: bool) -> str:
        plan = traffic_plan("text", store.current(self.engine, "text"))
        keys = ((name, hash_user(f"user:{name}", "a secret of tests")) for name in map(str, range(10_000)))
        return next(name for name, key in keys if chooses_candidate(plan, key) == candidate)


@pytest.fixture(scope="module")
def trial(
    api: StandIn, endpoint_bento: str, text_bento: str, standin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("endpoint")
    events = f"sqlite:///{folder / 'events.db'}"
    record_deployment(events, DEPLOYMENT.model_copy(update={"deployment": API, "price": json.dumps(PRICE)}))
    record_deployment(events, DEPLOYMENT.model_copy(update={"deployment": OWN}))
    with opened(events) as engine:
        release_directly(engine, API)
        urls = f"{endpoint_bento},{text_bento}"
        with serve_gateway(folder / "gateway", standin, urls, f"{standin}/image", events=events) as gateway:
            yield Trial(gateway, api, engine)


def test_users_get_the_endpoints_answers_and_what_they_cost_is_known(trial: Trial) -> None:
    client = trial.gateway.client()
    messages = [{"role": "user", "content": "a red boat"}]
    whole = client.chat.completions.create(model="atelier-text", messages=messages, max_tokens=8)  # type: ignore[call-overload]
    assert whole.choices[0].message.content == "boat: flat sticker"
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (10, 3)
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        model="atelier-text", messages=messages, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "boat: flat sticker"
    assert chunks[-1].usage.completion_tokens == 3
    assert {request["model"] for request in trial.api.requests[-2:]} == {"big-one"}
    (row,) = answered(trial.gateway.events, 0, 1e12)
    assert (row.deployment, row.requests, row.counted, row.currency) == (API, 2, 2, "USD")
    assert row.cost == pytest.approx(2 * (10 * 2.0 + 3 * 8.0) / 1e6) and row.cost_of_thousand == pytest.approx(0.044)
    assert row.p50 is not None and row.p50 > 0


def test_an_overloaded_endpoint_is_our_429_and_a_strange_one_our_503(trial: Trial) -> None:
    client = trial.gateway.client()
    for refusal, error in (
        ((429, {"retry-after": "99"}), openai.RateLimitError),
        ((404, {}), openai.InternalServerError),
    ):
        trial.api.refusals[:] = [refusal]
        with pytest.raises(error):
            client.chat.completions.create(model="atelier-text", messages=[{"role": "user", "content": "a boat"}])
    assert trial.api.refusals == []


def test_ones_own_model_goes_from_shadow_to_champion_against_the_endpoint(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "update_aliases", lambda *_: None)
    monkeypatch.setattr(canary, "logger", lambda: logging.getLogger("releases"))
    rules = {"min_requests": 2, "min_seconds": 0, "max_less_liked": 1.0}
    params = load()
    params = params.model_copy(
        update={
            "events": params.events.model_copy(update={"url": trial.gateway.events}),
            "release": params.release.model_copy(update=rules),
        }
    )
    with held(trial.engine, "text", "ada", 30) as lease:
        release = store.register(trial.engine, OWN, NOTE, lease.token)
        for state in (State.VALIDATED, State.SHADOW):
            release = store.move(trial.engine, release.release, release.version, state, NOTE, lease.token)
    assert eventually(lambda: (trial.ask("ann"), len(read(trial.gateway.events, "trials")) >= 2)[1])
    seen = [canary.step("text", params)]
    while " holds: " not in seen[-1] and state_of(trial) is not State.CHAMPION:
        ours, theirs = trial.user_of(candidate=True), trial.user_of(candidate=False)
        assert eventually(lambda user=ours: trial.ask(user).headers["x-deployment"] == OWN)  # type: ignore[misc]
        identifiers = [trial.ask(ours).headers["x-request-id"]]
        champions = trial.ask(theirs)
        assert champions.headers["x-deployment"] == API
        for identifier, user in ((identifiers[0], ours), (champions.headers["x-request-id"], theirs)):
            like = {"request_id": identifier, "kind": "like", "value": 1, "user": user}
            trial.gateway.post("/v1/feedback", json=like).raise_for_status()
        beside = {row.deployment: row for row in answered(trial.gateway.events, 0, 1e12)}
        seen.append(canary.step("text", params))
    assert state_of(trial) is State.CHAMPION, seen
    assert beside[API].cost is not None and beside[OWN].cost is None  # what its machine costs nobody knows
    assert beside[OWN].liked == beside[OWN].reactions == 5 and beside[OWN].p50 is not None
    assert eventually(lambda: trial.ask("ann").headers["x-deployment"] == OWN)


def state_of(trial: Trial) -> State:
    return next(r.state for r in store.current(trial.engine, "text") if r.deployment == OWN)
