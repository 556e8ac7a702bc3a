"""A release under load: `make bench NAME=release`, about three minutes, fails where a figure is wrong.

Prints its figures and writes them to `metrics/online/release_text.json` and `release_image.json`. The real gateway
process and a real SQLite database; the driver's own steps move the release. Text comes from two stand-ins, pictures
from two real image Bentos with tiny models. Users are simulated: each likes 9 of 10 answers, of a disliked candidate
1 of 10, and says so once per answer.
The load is open-loop: a request is sent when its time has come, whether or not earlier ones were answered.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from scipy import stats
from sqlalchemy import Engine

from components.artifact import canonical, write_text
from components.config import Line, Params
from components.events.database import opened
from components.releases import store
from components.releases.leases import held
from components.releases.machine import SHARES, WAY, State
from components.releases.schema import Release
from flows import canary
from tests.bench.timing import before_work
from tests.bentos.gateway.conftest import KEY, Running, named_standin, serve_gateway
from tests.bentos.processes import bento_command, free_port, workspace
from tests.bentos.processes import running as server
from tests.components.events.examples import read
from tests.components.releases.examples import NOTE, record, release_directly
from tests.conftest import ROOT
from tests.flows.releasing import Machine
from tests.flows.releasing import machine as machine
from tests.tiny_image import write_tiny_artifact

RATE, USERS = 20.0, 1500  # requests per second, and whose in turn
SEEN = 2.5  # seconds after which every gateway has read a move: it looks about once a second
LIMIT = 300.0  # seconds after which the load ends, whatever happens


@dataclass(frozen=True)
class Answer:
    sent: float
    user: str
    status: int
    deployment: str


@dataclass
class Load:
    """Requests of one user after another, until stopped, and what each says of the answer."""

    gateway: Running
    line: Line = "text"
    prompt: str = "a boat"
    disliked: str = ""  # the deployment whose answers users dislike
    taste: random.Random = field(default_factory=lambda: random.Random(7))
    answers: list[Answer] = field(default_factory=list)
    stopped: bool = False

    async def run(self) -> None:
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
        headers = {"authorization": f"Bearer {KEY}"}
        began = time.monotonic()
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in itertools.count():
                await asyncio.sleep(max(began + number / RATE - time.monotonic(), 0.0))
                if self.stopped or time.monotonic() - began > LIMIT:
                    return
                group.create_task(self._ask(session, f"user-{number % USERS}"))

    async def become(self, **changes: str) -> None:
        """Other words or another taste; a taste that is not named is the usual one."""
        for name, value in ({"disliked": ""} | changes).items():
            setattr(self, name, value)

    async def _ask(self, session: aiohttp.ClientSession, user: str) -> None:
        if self.line == "text":
            path, words = "chat/completions", {"messages": [{"role": "user", "content": self.prompt}]}
        else:
            path, words = "images/generations", {"prompt": self.prompt}
        body = {"model": f"atelier-{self.line}", "user": user} | words
        sent = time.time()
        try:
            async with session.post(f"{self.gateway.url}/v1/{path}", json=body) as answer:
                await answer.read()
                found = Answer(sent, user, answer.status, answer.headers.get("x-deployment", ""))
                request = answer.headers.get("x-request-id", "")
            likes = self.taste.random() < (0.1 if found.deployment == self.disliked else 0.9)
            reaction = {"request_id": request, "kind": "like", "value": int(likes), "user": user}
            async with session.post(f"{self.gateway.url}/v1/feedback", json=reaction) as said:
                found = found if said.status == 201 else Answer(sent, user, said.status, "feedback")
        except (TimeoutError, aiohttp.ClientError):
            found = Answer(sent, user, 0, "")
        self.answers.append(found)


@dataclass
class Stand:
    """Gateway, database and the stand-ins of text-a and text-b."""

    gateway: Running
    standins: dict[str, str]
    engine: Engine
    params: Params
    line: Line = "text"

    async def mode(self, deployment: str, mode: str) -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{self.standins[deployment]}/mode", data=mode):
            pass

    def begin(self, deployment: str, to: State) -> Release:
        with held(self.engine, self.line, "ada", 30, 10) as lease:
            release = store.register(self.engine, deployment, NOTE, lease.token)
            for state in WAY[1 : WAY.index(to) + 1]:
                release = store.move(self.engine, release.release, release.version, state, NOTE, lease.token)
        return release

    def state(self, release: str) -> State:
        return next(found.state for found in store.current(self.engine, self.line) if found.release == release)

    async def drive(self, release: str, until: State) -> None:
        """The driver's step, once a second instead of once a minute."""
        began = time.monotonic()
        while await asyncio.to_thread(self.state, release) is not until:
            assert time.monotonic() - began < 120, f"{release} stays {self.state(release)}"
            await asyncio.sleep(1)
            await asyncio.to_thread(canary.step, self.line, self.params)


@pytest.fixture
def stand(machine: Machine, tmp_path: Path) -> Iterator[Stand]:
    rules = machine.params.release.model_copy(update={"min_requests": 3, "min_seconds": 6, "max_less_liked": 1.0})
    url = machine.params.events.url
    record(url, "text-a", "text-b")
    with (
        named_standin(tmp_path / "a", "a") as a,
        named_standin(tmp_path / "b", "b") as b,
        opened(url) as engine,
    ):
        release_directly(engine, "text-a")
        bounds = {"max_concurrency": 64, "max_queue": 256}
        urls = f"{a}/text,{b}/text"
        with serve_gateway(tmp_path / "gateway", a, urls, f"{a}/image", events=url, **bounds) as gateway:
            params = machine.params.model_copy(update={"release": rules})
            yield Stand(gateway, {"text-a": a, "text-b": b}, engine, params)


@pytest.fixture
def painted(machine: Machine, tmp_path: Path) -> Iterator[Stand]:
    """Two real image Bentos; the one of image-a gives NaN for every rocket."""
    url = machine.params.events.url
    record(url, "image-a", "image-b", line="image")
    with ExitStack() as stack:
        engine = stack.enter_context(opened(url))
        release_directly(engine, "image-b", "image")
        urls = []
        for name, broken in (("b", ""), ("a", "rocket")):
            port, folder = free_port(), workspace(tmp_path / name)
            environment = {
                "ATELIER_IMAGE_ARTIFACT": str(write_tiny_artifact(tmp_path / f"artifact-{name}", broken)),
                "ATELIER_IMAGE_ENGINE": "pytorch",
                "ATELIER_DEPLOYMENT": f"image-{name}",
            }
            urls.append(f"http://127.0.0.1:{port}")
            command = bento_command("bentos.image.service:ImageBento", port)
            stack.enter_context(server(command, folder, f"{urls[-1]}/readyz", environment))
        text = stack.enter_context(named_standin(tmp_path / "text", "a"))
        bounds = {"max_concurrency": 64, "max_queue": 256}
        gateway = serve_gateway(tmp_path / "gateway", text, f"{text}/text", ",".join(urls), events=url, **bounds)
        yield Stand(stack.enter_context(gateway), {}, engine, machine.params, "image")


async def test_a_release_under_load(stand: Stand) -> None:
    load, quiet = Load(stand.gateway), await asyncio.to_thread(before_work)
    running = asyncio.create_task(load.run())
    faults = {}
    try:
        await asyncio.sleep(3)
        promoted = stand.begin("text-b", State.SHADOW)
        await stand.drive(promoted.release, State.CHAMPION)
        await asyncio.sleep(SEEN)
        report_shares(load, stand, promoted.release)
        back = stand.begin("text-a", State.CANARY_50)
        await asyncio.sleep(SEEN)
        report_rollback(load, await rolled_back(stand, back), "text-a")
        for fault, name in {"error": "errors", "slow": "too slow", "empty": "empty answers"}.items():
            turn, back_again = (partial(stand.mode, "text-a", mode) for mode in (fault, "ok"))
            faults[name] = await report_fault(load, stand, name, turn, back_again)
        turn = partial(load.become, disliked="text-a")
        faults["disliked"] = await report_fault(load, stand, "disliked", turn, partial(load.become))
    finally:
        load.stopped = True
        await running
    report_requests(load, faults, quiet)


async def test_a_candidate_whose_pictures_are_not_finite(painted: Stand) -> None:
    load, quiet = Load(painted.gateway, "image", "red apple"), await asyncio.to_thread(before_work)
    running = asyncio.create_task(load.run())
    faults = {}
    try:
        await asyncio.sleep(3)
        rocket, apple = (partial(load.become, prompt=f"red {thing}") for thing in ("rocket", "apple"))
        faults["NaN pictures"] = await report_fault(load, painted, "NaN pictures", rocket, apple)
    finally:
        load.stopped = True
        await running
    report_requests(load, faults, quiet)


def report_requests(load: Load, faults: dict[str, float], machine: dict[str, float | int | None]) -> None:
    failed = [answer for answer in load.answers if answer.status != 200]
    print(f"{load.line} requests {len(load.answers)} at {RATE:g}/s, failed {len(failed)}")
    assert not failed
    counts = {"per_second": RATE, "requests": len(load.answers), "failed": len(failed)}
    document = counts | {"seconds_to_no_traffic": faults, "machine": machine}
    write_text(ROOT / f"metrics/online/release_{load.line}.json", canonical(document))


def report_shares(load: Load, stand: Stand, release: str) -> None:
    """Of users in each state, once gateways know of it; and that nobody was moved back."""
    moves = [move for move in store.history(stand.engine, "text") if move.release == release]
    print(f"\n{'state':10} {'seconds':>7} {'users':>6} {'candidate':>9} {'share':>6} {'wanted':>6} {'p':>6}")
    for move, following in itertools.pairwise(moves):
        if move.target not in SHARES and move.target is not State.SHADOW:
            continue
        inside = {a.user: a for a in load.answers if move.time + SEEN < a.sent < following.time}
        taken, wanted = sum(a.deployment == "text-b" for a in inside.values()), SHARES.get(move.target, 0.0)
        p = stats.binomtest(taken, len(inside), wanted).pvalue
        share = f"{taken / len(inside):6.1%} {wanted:6.0%} {p:6.3f}"
        print(f"{move.target:10} {following.time - move.time:7.1f} {len(inside):6} {taken:9} {share}")
        assert p > 0.001
    users: dict[str, list[str]] = {}
    for answer in sorted(load.answers, key=lambda answer: answer.sent):
        users.setdefault(answer.user, []).append(answer.deployment)
    assert all(seen == sorted(seen) for seen in users.values())  # text-a, then text-b
    print(f"users moved to the candidate: {sum('text-b' in seen for seen in users.values())}, moved back: 0")
    shadows = [row for row in read(stand.gateway.events, "trials") if row["kind"] == "shadow"]
    print(f"shadow copies: {len(shadows)}, failed: {sum(bool(row['reason']) for row in shadows)}")


async def rolled_back(stand: Stand, release: Release) -> float:
    with held(stand.engine, "text", "ada", 30, 10) as lease:
        moved = store.move(stand.engine, release.release, release.version, State.ROLLED_BACK, NOTE, lease.token)
    await asyncio.sleep(SEEN)
    return moved.since


def report_rollback(load: Load, moved: float, deployment: str) -> None:
    later = [answer.sent - moved for answer in load.answers if answer.sent > moved and answer.deployment == deployment]
    print(f"rollback by hand: last request to the candidate {max(later, default=0.0):.1f} s after the move")
    assert max(later, default=0.0) < SEEN


async def report_fault(
    load: Load, stand: Stand, fault: str, turn: Callable[[], Awaitable[None]], back: Callable[[], Awaitable[None]]
) -> float:
    """A candidate that has served well at 5 % of users turns bad; seconds from its first bad answer to no traffic."""
    deployment = f"{stand.line}-a"
    candidate = stand.begin(deployment, State.CANARY_5)
    await asyncio.sleep(SEEN)
    await turn()
    turned = time.time()
    await stand.drive(candidate.release, State.ROLLED_BACK)
    await asyncio.sleep(SEEN)
    await back()
    rows = await asyncio.to_thread(read, stand.gateway.events, "trials", candidate.since)
    asked = await asyncio.to_thread(read, stand.gateway.events, "accepted", candidate.since)
    times = [row["time"] for row in asked if row["deployment"] == deployment and row["time"] >= turned]
    reasons = {row["reason"] for row in rows if row["kind"] == "breaker"}
    move = store.history(stand.engine, stand.line)[-1]
    bad, last = min(times), max(times)
    print(
        f"{fault}: {last - bad:.1f} s from the first bad answer to no traffic, {move.time - bad:.1f} s to rolled back; "
        f"{len(times)} requests met it, {sum(row['kind'] == 'failure' for row in rows)} answers made good by the "
        f"champion; cut off as {', '.join(reasons)}"
    )
    assert last - bad < 30
    return last - bad
