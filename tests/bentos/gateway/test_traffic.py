"""Routing over real plans in a real database and slots that are there, gone or not started; no server behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import Engine

from bentos.gateway.attempts import Attempt, answer
from bentos.gateway.errors import ApiError
from bentos.gateway.traffic import ENOUGH, PATIENCE_SECONDS, Route, Traffic
from bentos.gateway.upstream import Upstream
from bentos.protocol import Info
from components.events.schema import CandidateCall
from components.events.store import commit
from components.releases import store
from components.releases.leases import held
from components.releases.machine import WAY, State
from components.releases.schema import Release
from tests.bentos.processes import free_port
from tests.components.releases.examples import NOTE, release_directly
from tests.components.releases.examples import engine as engine

away: set[str] = set()  # slots that answer 503


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The first slot serves text-a, the second text-b, the third is not there."""

    async def info(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in away:
            raise web.HTTPServiceUnavailable
        return web.Response(text=Info(line="text", deployment=f"text-{name}", digest="0" * 64).model_dump_json())

    away.clear()
    app = web.Application()
    app.router.add_post("/{name}/info", info)
    async with TestServer(app) as server:
        urls = [str(server.make_url(name)) for name in ("a", "b")]
        client = Upstream({"text": [*urls, f"http://127.0.0.1:{free_port()}"], "image": urls[:1]}, 5)
        await client.refresh()
        yield client
        await client.close()


def candidate(engine: Engine, to: State) -> Release:
    """text-a is champion and text-b on its way up to a state."""
    release_directly(engine, "text-a")
    with held(engine, "text", "ada", 30) as lease:
        release = store.register(engine, "text-b", NOTE, lease.token)
        for state in WAY[1 : WAY.index(to) + 1]:
            release = store.move(engine, release.release, release.version, state, NOTE, lease.token)
    return release


def asked(traffic: Traffic, users: int = 200) -> list[str]:
    return [traffic.route("text", f"u{user}").info.deployment for user in range(users)]


async def test_without_releases_the_first_slot_is_asked(engine: Engine, upstream: Upstream) -> None:
    traffic = Traffic(upstream, engine, 0.05)
    for _ in range(2):
        assert set(asked(traffic)) == {"text-a"}
        await traffic.refresh()


async def test_a_promotion_alone_moves_users_to_the_other_slot(engine: Engine, upstream: Upstream) -> None:
    traffic = Traffic(upstream, engine, 0.05)
    candidate(engine, State.CHAMPION)
    await traffic.refresh()
    assert set(asked(traffic)) == {"text-b"}


async def test_an_endpoint_beside_the_champion_answers_for_it_where_that_is_wanted_and_it_is_not_on_trial(
    engine: Engine, upstream: Upstream
) -> None:
    slot, (seen, info) = next((s, found) for s, found in upstream._infos.items() if found[1].deployment == "text-b")
    upstream._infos[slot] = seen, info.model_copy(update={"endpoint": True})
    traffic, wanted = Traffic(upstream, engine, 0.05), Traffic(upstream, engine, 0.05, ["text"])
    assert (traffic.route("text", "u").fallback, wanted.route("text", "u").fallback) == (None, slot)
    away.add("a")
    await upstream.refresh()
    upstream._infos[slot] = seen, info.model_copy(update={"endpoint": True})
    assert wanted.route("text", "u").info.deployment == "text-b"
    with pytest.raises(ApiError):
        traffic.route("text", "u")
    candidate(engine, State.SHADOW)
    await wanted.refresh()
    with pytest.raises(ApiError):
        wanted.route("text", "u")


async def test_a_fallback_answers_what_failed_before_its_first_byte(upstream: Upstream) -> None:
    first, second, _ = upstream.slots["text"]
    noted: list[float] = []
    gateway = SimpleNamespace(traffic=SimpleNamespace(note_champion=lambda *seen: noted.append(seen[-1])))
    exchange = SimpleNamespace(id="r", deployment="text-a", line="text", size=1)
    info = Info(line="text", deployment="text-a", digest="0" * 64)

    async def ask(route: Route, status: int, begun: bool = False) -> str:
        async def call(attempt: Attempt) -> str:
            if attempt.slot == first:
                attempt.begun = begun
                raise ApiError(status, "no")
            return "the endpoint's"

        return await answer(gateway, exchange, route, call)  # type: ignore[arg-type]

    with_fallback, alone = Route(first, info, fallback=second), Route(first, info)
    assert await ask(with_fallback, 500) == "the endpoint's" and noted == []
    for route, status, begun in ((alone, 500, False), (with_fallback, 400, False), (with_fallback, 500, True)):
        with pytest.raises(ApiError):
            await ask(route, status, begun)


async def test_a_canary_gets_its_share_and_a_failing_database_changes_nothing(
    engine: Engine, upstream: Upstream, tmp_path: Path
) -> None:
    traffic = Traffic(upstream, engine, 0.05)
    candidate(engine, State.CANARY_25)
    await traffic.refresh()
    before = asked(traffic)
    assert 30 <= before.count("text-b") <= 70
    engine.dispose()
    for file in tmp_path.glob("events.db*"):  # noqa: ASYNC240
        file.write_bytes(b"not a database at all")
    await traffic.refresh()
    assert asked(traffic) == before


async def test_in_shadow_users_ask_the_champion_and_the_candidate_may_get_copies(
    engine: Engine, upstream: Upstream
) -> None:
    traffic = Traffic(upstream, engine, 0.05)
    candidate(engine, State.SHADOW)
    await traffic.refresh()
    route = traffic.route("text", "u")
    assert route.candidate is not None and route.answering_candidate is None
    assert (route.info.deployment, route.candidate.info.deployment) == ("text-a", "text-b")


async def test_a_breaker_that_any_gateway_opened_stops_it_here_until_the_next_release(
    engine: Engine, upstream: Upstream
) -> None:
    traffic = Traffic(upstream, engine, 0.05)
    release = candidate(engine, State.CANARY_50)
    row = CandidateCall(
        request_id=release.release,
        time=1.0,
        kind="breaker",
        line="text",
        deployment="text-b",
        reason="timeout",
        latency_s=1.0,
    )
    commit(engine, [row])
    await traffic.refresh()
    assert set(asked(traffic)) == {"text-a"}
    with held(engine, "text", "ada", 30) as lease:
        store.move(engine, release.release, release.version, State.ROLLED_BACK, NOTE, lease.token)
        again = store.register(engine, "text-b", NOTE, lease.token)
        for state in WAY[1 : WAY.index(State.CANARY_50) + 1]:
            again = store.move(engine, again.release, again.version, state, NOTE, lease.token)
    await traffic.refresh()
    assert set(asked(traffic)) == {"text-a", "text-b"}


async def test_a_slot_that_went_away_keeps_its_role_and_its_users_get_an_honest_error(
    engine: Engine, upstream: Upstream
) -> None:
    traffic = Traffic(upstream, engine, 0.05)
    candidate(engine, State.CANARY_50)
    await traffic.refresh()
    away.add("a")
    await upstream.refresh()
    answers = {"text-b": 0, "503": 0}
    for user in range(50):
        try:
            answers[traffic.route("text", f"u{user}").info.deployment] += 1
        except ApiError as error:
            answers[str(error.status)] += 1
    assert min(answers.values()) > 0


def test_28_large_requests_are_compared_with_large_ones(engine: Engine, upstream: Upstream) -> None:
    traffic = Traffic(upstream, engine, 0.05)
    for _ in range(ENOUGH):
        traffic.note_champion("image", 1, 0.1)
    assert traffic.is_slow("image", 1, 5.0) and traffic.patience("image", 1, 120) == PATIENCE_SECONDS
    assert (
        not traffic.is_slow("image", 10, 5.0) and traffic.patience("image", 10, 120) == 30
    )  # of them is nothing known
