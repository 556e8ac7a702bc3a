from __future__ import annotations

from pathlib import Path

from openai import AsyncOpenAI

from components.config import Audience
from components.events.schema import KINDS
from components.experiments.statistics import analyse
from flows.demo.audience import DRIFTED, visit
from monitoring.experiments import users_of
from monitoring.simulated import AudienceRun
from tests.components.events.examples import read, requests
from tests.components.experiments.examples import experiment
from tests.flows.stub_gateway import good_or_lazy, stub_gateway

AUDIENCE = Audience(users=24, requests_per_user=3, seed=7, image_share=0.2, concurrency=6)
PHRASES = ["a red fox", "draw an owl", "birthday cake on a t-shirt", "something about rain and clouds"]


async def go(folder: Path, drift: float = 0.0, audience: Audience = AUDIENCE) -> tuple[AudienceRun, str]:
    url = f"sqlite:///{folder / 'events.db'}"
    async with stub_gateway(url, experiment(), good_or_lazy) as base:
        client = AsyncOpenAI(base_url=f"{base}/v1", api_key="key", max_retries=0)
        return await visit(client, audience, PHRASES, folder, drift), url


async def test_every_request_is_sent_once_and_its_outcome_is_on_record(tmp_path: Path) -> None:
    run, url = await go(tmp_path)
    rows = requests(url)
    texts = [row for row in rows if row["line"] == "text"]
    assert len(texts) == AUDIENCE.users * AUDIENCE.requests_per_user  # a failed one is not tried again
    assert run.failed == 3  # the stub fails user 13
    assert {row["request_id"] for row in rows} == {*run.request_ids, *run.failed_ids}
    reactions = read(url, "feedback")
    assert run.likes + run.dislikes == sum(row["kind"] == "like" for row in reactions) > 0
    assert {row["kind"] for row in reactions} == set(KINDS)
    assert all((tmp_path / picture.file).read_bytes().startswith(b"\x89PNG") for picture in run.pictures)
    assert run.pictures


async def test_a_seed_makes_the_same_audience_twice(tmp_path: Path) -> None:
    one = AUDIENCE.model_copy(update={"users": 6})
    runs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        _, url = await go(tmp_path / name, audience=one)
        runs.append(sorted((row["user_key"], row["prompt"], row["output"]) for row in requests(url)))
    assert runs[0] == runs[1]


async def test_a_worse_variant_loses_by_its_words_alone(tmp_path: Path) -> None:
    large = AUDIENCE.model_copy(update={"users": 90, "image_share": 0.0, "concurrency": 16})
    _, url = await go(tmp_path, audience=large)
    result = analyse(experiment(), users_of(url, experiment(), [(0.0, experiment().weights)], float("inf")))
    assert result.words == "control better"


async def test_a_drifting_audience_asks_for_other_things(tmp_path: Path) -> None:
    _, url = await go(tmp_path, drift=1.0, audience=AUDIENCE.model_copy(update={"users": 4, "image_share": 0.0}))
    assert {row["prompt"] for row in requests(url)} <= set(DRIFTED)
