"""A real gateway over stand-ins that are busy or gone: what is asked again, of whom, and what is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from components.events.database import opened
from tests.bentos.gateway.conftest import Running, named_standin, serve_gateway
from tests.components.releases.examples import record, release_directly


def retries(gateway: Running, line: str = "text") -> int:
    found = re.search(rf'atelier_retries_total{{line="{line}"}} (\d+)', httpx.get(f"{gateway.url}/metrics").text)
    return int(found[1]) if found else 0


def ask(gateway: Running, prompt: str, **options: object) -> httpx.Response:
    messages = [{"role": "user", "content": prompt}]
    body = {"model": "atelier-text", "messages": messages, "seed": 1, **options}
    return gateway.post("/v1/chat/completions", json=body)


@pytest.fixture(scope="module")
def warm(gateway: Running) -> Running:
    """With a budget of one retry at least."""
    for _ in range(20):
        assert ask(gateway, "a boat").status_code == 200
    return gateway


def test_a_busy_model_is_asked_again_and_the_user_sees_no_error(warm: Running) -> None:
    before = retries(warm)
    answer = ask(warm, "BUSY boat")
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "you said: BUSY boat"
    assert retries(warm) == before + 1


@pytest.mark.parametrize(("prompt", "options"), [("FAIL", {}), ("CUT", {"stream": True})])
def test_neither_a_model_s_own_error_nor_an_answer_that_has_begun_is_repeated(
    warm: Running, prompt: str, options: dict[str, object]
) -> None:
    before, jobs = retries(warm), len(warm.log()["jobs"])
    answer = ask(warm, prompt, **options)
    assert "error" in answer.text
    assert (retries(warm), len(warm.log()["jobs"])) == (before, jobs + 1)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Running, ExitStack]]:
    """A gateway over two places that serve the champion, and what ends the first of them."""
    events = f"sqlite:///{tmp_path / 'events.db'}"
    record(events, "text-twin")
    with opened(events) as engine:
        release_directly(engine, "text-twin")
    with ExitStack() as stack, ExitStack() as first:
        urls = [
            place.enter_context(named_standin(tmp_path / name, "twin"))
            for name, place in (("one", first), ("two", stack))
        ]
        text = ",".join(f"{url}/text" for url in urls)
        yield (
            stack.enter_context(serve_gateway(tmp_path / "gateway", urls[1], text, f"{urls[1]}/image", events=events)),
            first,
        )


def test_where_one_place_goes_away_the_other_answers(pair: tuple[Running, ExitStack]) -> None:
    gateway, first = pair
    assert ask(gateway, "a boat").status_code == 200
    first.close()
    assert {ask(gateway, f"boat {i}").status_code for i in range(10)} == {200}
