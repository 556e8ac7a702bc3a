"""Asking an endpoint, a stand-in on loopback: what is sent, passed on, tried again and refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from components.artifact import ArtifactError, Manifest
from components.runtimes import endpoint
from components.runtimes.base import PromptTooLongError, RequestRefusedError, TextRequest, TextResult
from components.runtimes.endpoint import Endpoint, EndpointError, EndpointText
from tests.endpoint_standin import SLOW_SECONDS, StandIn, endpoint_standin

ASKED = TextRequest((("user", "a red boat"),), max_new_tokens=16, temperature=0.5, top_p=0.9, seed=3)


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with endpoint_standin() as standin:
        yield standin


@pytest.fixture
def standin(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setattr(endpoint, "PAUSES", (0.01, 0.01))
    server.mode = "ok"
    for noted in (server.requests, server.headers, server.refusals, server.left):
        noted.clear()
    return server


def ask(standin: StandIn, timeout: float = 5.0, **changes: object) -> list[str | TextResult]:
    async def items() -> list[str | TextResult]:
        engine = EndpointText(replace(Endpoint(standin.url, "m"), **changes), lambda: "secret", timeout)  # type: ignore[arg-type]
        try:
            return [item async for item in engine.stream(ASKED)]
        finally:
            await engine.close()

    return asyncio.run(items())


def test_pieces_come_as_they_are_written_and_then_the_whole_with_its_tokens(standin: StandIn) -> None:
    *pieces, result = ask(standin, system_prompt="Draw.")
    assert pieces == ["boat:", " flat", " sticker"]
    assert result == TextResult("boat: flat sticker", 4, 3, "stop")
    (body,) = standin.requests
    assert body["messages"] == [{"role": "system", "content": "Draw."}, {"role": "user", "content": "a red boat"}]
    assert (body["model"], body["max_tokens"], body["seed"], body["top_p"]) == ("m", 16, 3, 0.9)
    assert standin.headers[0]["authorization"] == "Bearer secret"


def test_what_an_endpoint_does_not_take_is_not_sent(standin: StandIn) -> None:
    ask(standin, omit=("max_tokens", "seed", "top_p"))
    (body,) = standin.requests
    assert body["max_completion_tokens"] == 16 and not {"max_tokens", "seed", "top_p"} & body.keys()


def test_tokens_that_nobody_counted_are_not_made_up(standin: StandIn) -> None:
    standin.mode = "no_usage"
    assert ask(standin)[-1] == TextResult("boat: flat sticker", 0, 0, "stop")


@pytest.mark.parametrize("first", [(429, {"retry-after": "0"}), (500, {}), (503, {})])
def test_a_failure_that_passes_is_asked_again(standin: StandIn, first: tuple[int, dict[str, str]]) -> None:
    standin.refusals[:] = [first]
    assert ask(standin)[-1] == TextResult("boat: flat sticker", 3, 3, "stop")
    assert len(standin.requests) == 2


@pytest.mark.parametrize(
    ("refusals", "tries", "status"),
    [
        ([(500, {})] * 5, 3, 502),
        ([(429, {})] * 5, 3, 429),
        ([(429, {"retry-after": "3600"})], 1, 429),
        ([(429, {"retry-after": "Wed, 21 Oct 2060 07:28:00 GMT"})], 1, 429),
        ([(401, {})], 1, 502),
        ([(404, {})], 1, 502),
        ([(307, {"location": "http://127.0.0.1:9/"})], 1, 502),  # the key would go elsewhere
    ],
)
def test_what_does_not_pass_ends_with_the_endpoints_own_words(
    standin: StandIn, refusals: list[tuple[int, dict[str, str]]], tries: int, status: int
) -> None:
    standin.refusals[:] = refusals
    with pytest.raises(EndpointError, match=f"answers {refusals[0][0]}: no: {refusals[0][0]}") as failed:
        ask(standin)
    assert (len(standin.requests), failed.value.status) == (tries, status)


def test_a_request_that_is_refused_is_no_failure_of_the_endpoint(standin: StandIn) -> None:
    standin.refusals[:] = [(400, {})]
    with pytest.raises(RequestRefusedError, match="answers 400"):
        ask(standin)
    standin.refusals[:] = [(400, {"code": "context_length_exceeded"})]
    with pytest.raises(PromptTooLongError):
        ask(standin)
    assert len(standin.requests) == 2


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("json", "answers application/json, not a stream"),
        ("shape", "no chat completion: choices"),
        ("cut", "without a finish_reason"),
        ("broken", "broke off: overheated"),
        ("tool", "finish_reason 'tool_calls'"),
    ],
)
def test_an_answer_of_another_shape_is_an_error(standin: StandIn, mode: str, words: str) -> None:
    standin.mode = mode
    with pytest.raises(EndpointError, match=words) as failed:
        ask(standin)
    assert failed.value.status == 502


def test_a_slow_endpoint_ends_in_time(standin: StandIn) -> None:
    standin.mode = "slow"
    with pytest.raises(EndpointError, match="did not answer within") as failed:
        ask(standin, timeout=0.2)
    assert failed.value.status == 504 and SLOW_SECONDS > 0.2


def test_nobody_there_is_an_error_in_words() -> None:
    with pytest.raises(EndpointError, match="cannot be reached"):
        ask(StandIn("http://127.0.0.1:9/v1"))


def test_the_endpoint_hears_when_a_caller_leaves(standin: StandIn) -> None:
    standin.mode = "hold"

    async def leave() -> None:
        engine = EndpointText(Endpoint(standin.url, "m"), str, 30.0)
        pieces = engine.stream(ASKED)
        assert await anext(pieces) == "boat:"
        await pieces.aclose()
        for _ in range(200):
            if standin.left:
                break
            await asyncio.sleep(0.01)
        await engine.close()

    asyncio.run(leave())
    assert standin.left == ["a red boat"]
    assert "authorization" not in standin.headers[0]


def test_a_key_is_in_no_message(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.refusals[:] = [(401, {})]
    with pytest.raises(EndpointError) as failed:
        ask(standin)
    assert "secret" not in str(failed.value) and endpoint.KEY in str(failed.value)


def test_another_artifact_is_no_endpoint() -> None:
    manifest = Manifest(line="text", kind="package", files={}, parents={}, parameters={}, metrics={})
    with pytest.raises(ArtifactError, match="a package is no endpoint"):
        Endpoint.of(manifest)
