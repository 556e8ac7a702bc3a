"""A real gateway in front of a champion and a candidate: who answers when that fails, and what is on record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import Engine

from components.events import window
from components.events.database import opened
from components.events.read import finished, request
from components.events.schema import Reason, hash_user
from components.experiments.assignment import uniform
from components.lineage import explain, trace
from components.releases import store
from components.releases.evidence import calls
from components.releases.leases import held
from components.releases.machine import WAY, State
from components.releases.plan import chooses_candidate, traffic_plan
from components.releases.schema import Release
from tests.bentos.gateway.conftest import Running, named_standin, serve_gateway
from tests.bentos.gateway.test_chat import eventually
from tests.components.events.examples import read
from tests.components.releases.examples import NOTE, record, release_directly

TEXT: dict[str, Any] = {"line": "text", "rows": 2000}


@dataclass(frozen=True)
class Line:
    """Two stand-ins behind a gateway, with the candidate's release in a state."""

    gateway: Running
    champion: str
    candidate: str
    engine: Engine

    def mode(self, mode: str) -> None:
        httpx.post(f"{self.candidate}/mode", content=mode, timeout=5).raise_for_status()

    def jobs(self) -> int:
        return len(httpx.get(f"{self.candidate}/log", timeout=5).json()["jobs"])

    def move(self, release: Release, *states: State) -> Release:
        with held(self.engine, "text", "ada", 30) as lease:
            for state in states:
                release = store.move(self.engine, release.release, release.version, state, NOTE, lease.token)
        return release

    def begin(self, to: State) -> tuple[Release, str, str]:
        """A new release of text-b in a state the gateway has seen; a user of the candidate, one of the champion.

        The candidate's user was not the candidate's in the release before, whose plan the gateway may still have.
        """
        before = store.current(self.engine, "text")[-1].release
        with held(self.engine, "text", "ada", 30) as lease:
            release = store.register(self.engine, "text-b", NOTE, lease.token)
        release = self.move(release, *WAY[1 : WAY.index(to) + 1])
        plan = traffic_plan("text", store.current(self.engine, "text"))
        sides: dict[bool, str] = {}
        for name in (f"user-{i}" for i in range(200)):
            key = hash_user(f"user:{name}", "a secret of tests")
            if uniform(key, before) >= 0.5:
                sides.setdefault(chooses_candidate(plan, key), name)
        ours, theirs = sides.get(True, ""), sides[False]
        assert not ours or eventually(lambda: self.ask(ours)[1] == "text-b")
        return release, ours, theirs

    def post(self, user: str, prompt: str, **options: object) -> httpx.Response:
        body = {"model": "atelier-text", "messages": [{"role": "user", "content": prompt}], "user": user, **options}
        return self.gateway.post("/v1/chat/completions", json=body)

    def ask(self, user: str, prompt: str = "a boat", **options: object) -> tuple[str, str, str]:
        """Text, deployment that answered and request id."""
        answer = self.post(user, prompt, **options).raise_for_status()
        return (
            answer.json()["choices"][0]["message"]["content"],
            answer.headers["x-deployment"],
            answer.headers["x-request-id"],
        )

    def trials(self, kind: str) -> list[dict[str, object]]:
        return [row for row in read(self.gateway.events, "trials") if row["kind"] == kind]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("trial")
    events = f"sqlite:///{folder / 'events.db'}"
    record(events, "text-a", "text-b")
    with named_standin(folder / "a", "a") as a, named_standin(folder / "b", "b") as b, opened(events) as engine:
        release_directly(engine, "text-a")
        urls = f"{a}/text,{b}/text,http://127.0.0.1:9/text"  # port 9 refuses: a third slot that is not there
        with serve_gateway(folder / "gateway", a, urls, f"{a}/image", events=events) as gateway:
            yield Line(gateway, a, b, engine)


@pytest.fixture
def line(both: Line) -> Iterator[Line]:
    """The line with no candidate, before and after."""
    yield both
    both.mode("ok")
    for release in store.current(both.engine, "text"):
        if release.state in WAY[:-1]:
            both.move(release, State.ROLLED_BACK)


@pytest.mark.parametrize(("mode", "reason"), [("error", "internal"), ("empty", "bad_output")])
def test_the_champion_answers_for_a_candidate_that_fails_and_both_are_on_record(
    line: Line, mode: str, reason: str
) -> None:
    _, ours, theirs = line.begin(State.CANARY_50)
    assert line.ask(theirs)[1] == "text-a"
    line.mode(mode)
    text, answered, identifier = line.ask(ours)
    assert (text, answered) == ("you said: a boat", "text-a")
    accepted, ended = request(line.gateway.events, identifier), finished(line.gateway.events, identifier)
    assert accepted is not None and ended is not None
    assert (accepted["deployment"], ended["outcome"]) == ("text-b", "ok")
    assert eventually(lambda: (identifier, reason) in {(r["request_id"], r["reason"]) for r in line.trials("failure")})
    metrics = httpx.get(f"{line.gateway.url}/metrics", timeout=5).text
    assert f'atelier_candidate_calls_total{{deployment="text-b",reason="{reason}",whom="user"}}' in metrics


def test_14_who_answered_for_a_candidate_is_on_record_and_why_names_it(line: Line, tmp_path: Path) -> None:
    _, ours, _ = line.begin(State.CANARY_50)
    own = line.ask(ours)[2]
    line.mode("error")
    _, answered, identifier = line.ask(ours)
    line.mode("ok")
    body = {"model": "atelier-text", "messages": [{"role": "user", "content": "a cat"}], "user": ours, "stream": True}
    streamed = line.gateway.post("/v1/chat/completions", json=body).headers["x-request-id"]
    by = {row["request_id"]: row["deployment"] for row in window.sample(line.gateway.events, 0, 1e12, **TEXT)}
    for request_id, expected in ((own, "text-b"), (identifier, answered), (streamed, "text-b")):
        found = trace(request_id, line.gateway.events, tmp_path)
        assert found["deployment"]["deployment"] == by[request_id] == expected
        assert found["response"]["deployment"] == "text-b"
    assert answered == "text-a"
    assert "asked        text-b, which failed; text-a answered" in explain(identifier, line.gateway.events, tmp_path)
    assert "which failed" not in explain(own, line.gateway.events, tmp_path)


@pytest.mark.parametrize("mode", ["error", "empty"])
def test_a_stream_that_fails_before_its_first_word_comes_from_the_champion(line: Line, mode: str) -> None:
    _, ours, _ = line.begin(State.CANARY_50)

    def stream() -> tuple[str, str]:
        messages = [{"role": "user", "content": "a cat"}]
        create = line.gateway.client().chat.completions.create
        answer = create(model="atelier-text", messages=messages, user=ours, stream=True)  # type: ignore[call-overload]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        return text.strip(), answer.response.headers["x-deployment"]

    assert stream() == ("you said: a cat", "text-b")
    line.mode(mode)
    assert stream() == ("you said: a cat", "text-a")


def test_the_breaker_takes_all_traffic_until_the_next_release(line: Line) -> None:
    release, ours, _ = line.begin(State.CANARY_50)
    line.mode("error")
    assert {line.ask(ours)[1] for _ in range(3)} == {"text-a"}
    line.mode("ok")
    before = line.jobs()
    assert {line.ask(ours)[1] for _ in range(5)} == {"text-a"} and line.jobs() == before
    assert eventually(lambda: release.release in {row["request_id"] for row in line.trials("breaker")})
    line.move(release, State.ROLLED_BACK)
    line.begin(State.CANARY_50)  # which waits until its users are served by it


def test_shadow_copies_reach_the_candidate_and_its_failures_nobody(line: Line) -> None:
    _, _, theirs = line.begin(State.SHADOW)
    line.mode("error")
    before = len(line.trials("shadow"))

    def shadowed() -> bool:
        assert line.ask(theirs)[:2] == ("you said: a boat", "text-a")
        return len(line.trials("shadow")) > before

    assert eventually(shadowed)
    assert line.trials("shadow")[-1]["reason"] == "internal"


def test_a_failure_after_the_first_word_is_an_honest_error(line: Line) -> None:
    _, ours, _ = line.begin(State.CANARY_50)
    messages = [{"role": "user", "content": "please CUT"}]
    create = line.gateway.client().chat.completions.create
    answer = create(model="atelier-text", messages=messages, user=ours, stream=True)  # type: ignore[call-overload]
    with pytest.raises(openai.APIError):
        list(answer)
    identifier = answer.response.headers["x-request-id"]
    assert eventually(lambda: identifier in {row["request_id"] for row in line.trials("failure")})


@pytest.mark.parametrize("bound", [1, 7])
def test_28_what_a_client_bounds_to_nothing_is_no_failure_of_the_candidate(line: Line, bound: int) -> None:
    _, ours, _ = line.begin(State.CANARY_50)
    before = len(line.trials("failure"))
    line.mode("empty")
    answers = [line.ask(ours, max_tokens=bound)[:2] for _ in range(5)]
    assert answers == [("", "text-b")] * 5  # it is still asked, so its breaker is closed
    assert len(line.trials("failure")) == before
    assert line.ask(ours)[1] == "text-a"  # without that bound, nothing is a failure


@pytest.mark.parametrize("prompt", ["please FAIL", "a BLANK"])
def test_28_what_champion_and_candidate_fail_alike_counts_against_neither(line: Line, prompt: str) -> None:
    release, ours, _ = line.begin(State.CANARY_50)
    statuses = {line.post(ours, prompt).status_code for _ in range(8)}
    assert statuses == ({500} if "FAIL" in prompt else {200})
    assert line.ask(ours)[1] == "text-b"  # its breaker is closed
    failures = [row for row in line.trials("failure") if float(str(row["time"])) >= release.since]
    assert {row["reason"] for row in failures} <= {Reason.BOTH}
    assert not [call for call in calls(line.engine, release, 60.0, time.time()) if call.failed]
