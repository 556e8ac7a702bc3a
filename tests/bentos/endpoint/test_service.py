"""The endpoint Bento as a process, in front of a stand-in: it speaks as the text Bento does, whatever the API says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from bentos.protocol import Info, Written
from components import engine_token
from components.config import load
from components.stage import StageError
from flows import release
from tests.bentos.text.test_service import job, lines, post
from tests.endpoint_standin import StandIn
from tests.tiny_endpoint import SYSTEM_PROMPT


@pytest.fixture
def standin(api: StandIn) -> Iterator[StandIn]:
    for noted in (api.requests, api.headers, api.refusals, api.left):
        noted.clear()
    yield api
    api.mode = "ok"
    api.refusals.clear()


def test_the_endpoints_answer_comes_whole_and_as_it_is_written(endpoint_bento: str, standin: StandIn) -> None:
    whole = Written.model_validate_json(post(endpoint_bento, "generate", job()).text)
    assert (whole.text, whole.finish_reason, whole.deployment) == ("boat: flat sticker", "stop", "text-api")
    assert whole.prompt_tokens == len(SYSTEM_PROMPT.split()) + 3 and whole.completion_tokens == 3
    first, *pieces, last = lines(post(endpoint_bento, "stream", job()))
    assert first.deployment == "text-api" and [line.piece for line in pieces] == ["boat:", " flat", " sticker"]
    assert last.result is not None and last.result.text == whole.text
    assert {headers["authorization"] for headers in standin.headers} == {"Bearer bought"}
    info = Info.model_validate_json(post(endpoint_bento, "info", {}).text)
    assert (info.line, info.deployment) == ("text", "text-api")


def test_a_bento_whose_endpoint_refuses_it_is_not_released(
    endpoint_bento: str, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "service_urls", lambda params: {"text": endpoint_bento})
    release.require_answer("text", load())
    standin.refusals.append((401, {}))
    with pytest.raises(StageError, match=r"text runs and does not answer: HTTP Error 502.* set ATELIER_ENDPOINT_KEY"):
        release.require_answer("text", load())


@pytest.mark.parametrize(
    ("refusals", "mode", "status"),
    [
        ([(429, {"retry-after": "60"})], "ok", 429),
        ([(401, {})], "ok", 502),
        ([], "shape", 502),
        ([(400, {})], "ok", 422),
        ([(400, {"code": "context_length_exceeded"})], "ok", 400),
    ],
)
def test_what_fails_at_the_endpoint_says_so_in_the_protocol(
    endpoint_bento: str, standin: StandIn, refusals: list[tuple[int, dict[str, str]]], mode: str, status: int
) -> None:
    standin.mode = mode
    for api in ("generate", "stream"):
        standin.refusals[:] = [(code, dict(headers)) for code, headers in refusals]
        answer = post(endpoint_bento, api, job())
        if api == "generate":
            assert answer.status_code == status
            continue
        last = lines(answer)[-1]
        assert (last.too_long is not None, last.refused is not None) == (status == 400, status == 422)
        assert last.unanswered == (status if status in (429, 502) else None)


def test_a_caller_who_leaves_ends_the_endpoints_work(endpoint_bento: str, standin: StandIn) -> None:
    standin.mode = "hold"

    headers = engine_token.headers()
    with httpx.stream("POST", f"{endpoint_bento}/stream", json=job(), headers=headers, timeout=5) as answer:
        pieces = answer.iter_lines()
        assert [next(pieces), next(pieces)][1] == '{"piece":"boat:"}'
    deadline = time.monotonic() + 2.5  # the Bento's own bound would end it after 3 s
    while not standin.left and time.monotonic() < deadline:
        time.sleep(0.02)
    assert standin.left == ["a red boat"]
