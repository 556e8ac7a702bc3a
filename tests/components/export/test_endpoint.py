"""An endpoint's artifact, asked of a stand-in: what is sent, what is kept, what is refused; and how it is compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.artifact import seal, verify
from components.config import BaseText, Params, Price, load
from components.data import sample
from components.data.sample import REACTION, Sample
from components.evaluation import champion
from components.evaluation.answers import METRICS
from components.export import endpoint
from components.models import text_encoder
from components.paths import TEXT_ENDPOINT
from components.stage import StageError
from tests.conftest import ROOT
from tests.endpoint_standin import StandIn, endpoint_standin

THINGS = ("apple", "heart", "rocket", "dog", "moon", "fish")


def pair(thing: str, verb: str, source: str = "") -> Sample:
    meta = {"completion": f"{thing}: flat sticker"}
    return Sample(f"{thing}-{verb}", f"{verb} {thing}", label=thing, source=source, meta=meta)


def write_split(things: tuple[str, ...]) -> None:
    """What is held out, one thing of which a user taught."""
    split = Path("data/text/split")
    held_out = [pair(thing, verb) for thing in things for verb in ("draw", "paint")]
    sample.write(split / "train.parquet", [pair(thing, "sketch") for thing in things])
    sample.write(split / "test.parquet", [*held_out, pair("secret", "draw", REACTION)])
    seal(split, line="text", kind="split", parents={}, parameters={"things": list(things)}, metrics={})


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with endpoint_standin() as standin:
        yield standin


@pytest.fixture
def api(server: StandIn, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in; work is done in an empty project with held-out pairs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(endpoint, "TextEncoder", lambda: text_encoder.TextEncoder(tiny_encoder))
    write_split(THINGS)
    server.requests.clear()
    server.refusals.clear()
    return server


def params_with(api: StandIn) -> Params:
    params = load(ROOT / "params.yaml")
    text = BaseText(model="big-one", endpoint=api.url, price=Price(input=2.0, output=8.0, currency="USD"))
    return params.model_copy(update={"base": params.base.model_copy(update={"text": text})})


def test_its_answers_stand_beside_those_that_need_no_model_and_nobody_is_asked_twice(api: StandIn) -> None:
    params = params_with(api)
    manifest = endpoint.package(params)
    asked = [request["messages"][-1]["content"] for request in api.requests]
    assert sorted(phrase.split()[-1] for phrase in asked) == sorted(THINGS)  # one of each, and no user's
    assert manifest.metrics["endpoint"] == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert manifest.metrics["samples"] == len(THINGS) and manifest.metrics["echo"]["exact"] == 0.0
    assert manifest.metrics["completion_tokens"] == 3 * len(THINGS)
    assert manifest.parameters["price"] == {"input": 2.0, "output": 8.0, "currency": "USD"}
    write_split((*THINGS, "sun"))
    assert endpoint.package(params) == manifest and len(api.requests) == len(THINGS)
    write_split(("sun", "car", "tree"))  # what it was asked is held out no more
    assert endpoint.package(params) != manifest and len(api.requests) == len(THINGS) + 3


def test_without_pairs_it_is_released_unevaluated(api: StandIn) -> None:
    shutil.rmtree("data")
    assert endpoint.package(params_with(api)).metrics == {} and api.requests == []


def test_an_endpoint_that_does_not_answer_leaves_nothing_behind(api: StandIn) -> None:
    api.refusals[:] = [(401, {})] * len(THINGS)
    with pytest.raises(StageError, match=r"base\.text\.endpoint: .*answers 401: no: 401; set ATELIER_ENDPOINT_KEY"):
        endpoint.package(params_with(api))
    assert not TEXT_ENDPOINT.exists()


def test_a_model_of_ones_own_has_to_answer_about_as_well(
    api: StandIn, tiny_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_with(api)
    endpoint.package(params)
    asked = len(api.requests)
    own = shutil.copytree(tiny_export, tmp_path / "own")
    seal(own, line="text", kind="package", parents={}, parameters={}, metrics={})
    monkeypatch.setattr(champion.config, "load", lambda: params)
    for candidate, other, passed in ((own, TEXT_ENDPOINT, False), (TEXT_ENDPOINT, own, True)):
        champion.main("text", candidate, other, tmp_path / "verdict.json")
        verdict = json.loads((tmp_path / "verdict.json").read_bytes())
        assert (verdict["passed"], verdict["compared"]) == (passed, "answers, as an endpoint has no perplexity")
        (check,) = verdict["checks"]
        assert (check["name"], check["threshold"], check["pairs"]) == ("chrf_gain_lower", -0.1, len(THINGS))
    assert len(api.requests) == asked
    write_split(("sun", "car", "tree"))
    with pytest.raises(
        StageError, match="0 held-out pairs that differ are among those that the endpoint was asked about"
    ):
        champion.compare("text", own, TEXT_ENDPOINT, params)
    assert verify(TEXT_ENDPOINT).kind == "endpoint"
