"""A project that begins with an API (a stand-in): its release, and that of a model of its own beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.artifact import read_manifest, seal, verify
from components.config import Params, load
from components.config.document import read_yaml, write_yaml
from components.data import sample
from components.data.sample import REACTION, Sample
from components.evaluation.answers import METRICS
from components.paths import ENCODER
from components.stage import StageError
from flows import driver, release, stack
from flows.environment import ROOT
from tests.endpoint_standin import StandIn, endpoint_standin
from tests.flows.releasing import Machine
from tests.flows.releasing import machine as machine
from tests.tiny_image import write_tiny_encoder

THINGS = ("apple", "heart", "rocket", "dog", "moon", "fish")
PRICE = {"input": 2.0, "output": 8.0, "currency": "USD"}


def pair(thing: str, verb: str, **changes: str) -> Sample:
    meta = {"completion": f"{thing}: flat sticker"}
    return Sample(f"{thing}-{verb}", f"{verb} {thing}", label=changes.pop("label", thing), meta=meta, **changes)


class Project:
    """A folder with code, parameters and pairs of its own; one held-out pair was learned from a user."""

    def __init__(self, root: Path, machine: Machine, patch: pytest.MonkeyPatch) -> None:
        self.root, self.machine, self.patch = root, machine, patch
        (root / "components").symlink_to(ROOT / "components")
        write_tiny_encoder(root / ENCODER)
        split = root / "data" / "text" / "split"
        sample.write(split / "train.parquet", [pair(thing, "sketch") for thing in THINGS])
        told = pair("secret", "draw", label="secret", source=REACTION)
        sample.write(split / "test.parquet", [*(pair(t, verb) for t in THINGS for verb in ("draw", "paint")), told])
        seal(split, line="text", kind="split", parents={}, parameters={}, metrics={})
        patch.setattr(release, "ROOT", root)
        patch.setattr(release, "register_package", lambda line: (f"atelier-{line}", "1"))
        patch.setattr(release, "build_bento", lambda name, version: f"atelier-{name}:{version}")
        patch.setenv("ATELIER_ENDPOINT_KEYS", "")  # put back afterwards
        patch.setattr(release, "require_answer", lambda slot, params: None)  # nothing runs in a slot here
        patch.setenv("PYTHONPATH", str(ROOT))

    def set(self, **base: object) -> Params:
        """Write params.yaml with another base of the text line."""
        document = read_yaml(ROOT / "params.yaml")
        document["base"]["text"] |= base
        document["events"]["url"] = self.machine.params.events.url
        write_yaml(self.root / "params.yaml", document)
        load.cache_clear()
        params = load(self.root / "params.yaml")
        self.patch.setattr(release, "load", lambda: params)
        return params


@pytest.fixture
def project(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, machine, monkeypatch)


@pytest.fixture
def api() -> Iterator[StandIn]:
    with endpoint_standin() as standin:
        yield standin


def test_an_api_is_released_and_a_model_of_ones_own_has_to_answer_as_well(
    project: Project, api: StandIn, tiny_export: Path, prefect_server: None
) -> None:
    params = project.set(endpoint=api.url, model="big-one", price=PRICE)
    first = release.release(["text"])["text"]
    record = stack.require_deployed("text")
    assert record.bento.startswith("atelier-endpoint:") and json.loads(record.price) == PRICE
    assert driver.plan("text", params).champion == first
    asked = [request["messages"][-1]["content"] for request in api.requests]
    assert sorted(phrase.split()[-1] for phrase in asked) == sorted(THINGS)  # one of each, and nothing that users said
    folder = project.root / "artifacts" / "text" / "endpoint"
    metrics = verify(folder).metrics
    assert metrics["endpoint"] == pytest.approx(dict.fromkeys(METRICS, 1.0)) and metrics["samples"] == len(THINGS)
    assert metrics["echo"]["chrf"] < 1 and metrics["completion_tokens"] == 3 * len(THINGS)
    assert project.machine.restarted == ["text", "gateway"]
    assert release.release(["text"])["text"] == first and len(api.requests) == len(THINGS)  # nobody is asked again

    own = project.root / "artifacts" / "text" / "package"
    shutil.copytree(tiny_export, own)
    seal(own, line="text", kind="package", parents={}, parameters={}, metrics={})
    shutil.copytree(folder, project.root / "champions" / "text" / record.digest[:12])
    params = project.set(model="smollm2")
    with pytest.raises(StageError, match=r"may be worse than text-.*: chrf_gain_lower is -.*must be at least -0.1"):
        release.release(["text"], canary=True)
    (evidence,) = (project.root / "comparisons").rglob("*.json")
    assert json.loads(evidence.read_bytes())["compared"] == "answers, as an endpoint has no perplexity"
    second = release.release(["text"], canary=True, force="to see it in the shadow")["text"]
    plan = driver.plan("text", params)
    assert (plan.champion, plan.candidate, plan.shadow) == (first, second, True)
    assert stack.slot_of("text", first) == "text" and stack.slot_of("text", second) == "text-b"
    beside = stack.deployed("text-b")
    assert beside is not None and beside.bento.startswith("atelier-text:") and json.loads(beside.price) == {}
    assert beside.digest == read_manifest(own).digest and len(api.requests) == len(THINGS)


def test_an_api_that_does_not_answer_is_not_released(project: Project, api: StandIn, prefect_server: None) -> None:
    project.set(endpoint=api.url, model="big-one")
    api.refusals[:] = [(401, {})] * len(THINGS)
    with pytest.raises(StageError, match=r"answers 401: no: 401; set ATELIER_ENDPOINT_KEY"):
        release.release(["text"])
    assert project.machine.restarted == [] and not (project.root / "artifacts").exists()
