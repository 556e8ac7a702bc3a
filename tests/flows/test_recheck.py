"""Answers of production are computed again with the model that gave them, kept before a training replaced it."""

from __future__ import annotations

import base64
import json
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bentos.image.service import encode_png
from components.artifact import seal
from components.config import Params, load
from components.events import rechecks
from components.events.database import opened
from components.events.ledger import Note
from components.events.read import get_deployment, record_deployment
from components.events.schema import Deployment, Sampled
from components.events.store import commit
from components.models.brought_pipeline import digests
from components.models.language import add_adapter, load_base
from components.models.pipelines import adapters
from components.releases import store
from components.releases.leases import held
from components.releases.machine import State
from components.runtimes.base import ImageRequest, TextRequest
from components.runtimes.image import load_pipeline, load_sampler
from components.runtimes.text import load_text
from flows import recheck, references, release
from flows.rechecked import rechecked
from tests.conftest import TinyPipeline
from tests.tiny_language import tiny_chat

ROUNDING = {"verify": {"parity": {"rounding": {"tie": 0.05}}}}


class Project:
    """A released tiny text model, and answers that the engine gave with it."""

    def __init__(self, root: Path, base: Path, export: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.export = root, export
        params = load()
        events = params.events.model_copy(update={"url": f"sqlite:///{root / 'events.db'}"})
        self.params: Params = params.model_copy(update={"events": events})
        patch.setattr(references, "ROOT", root)
        patch.setattr(references, "REFERENCES", root / "references")
        patch.setattr(recheck, "logger", lambda: logging.getLogger("recheck"))
        shutil.copytree(base, root / "data/base/text")
        self.checkpoint(base)
        package = root / "artifacts/text/package"
        shutil.copytree(export / "openvino", package / "openvino")
        parents = {"checkpoint": self.made, "base": references.read_manifest(base).digest}
        parameters = {"weight_format": "int8"}
        digest = seal(
            package, line="text", kind="package", parents=parents, parameters=parameters, metrics=ROUNDING
        ).digest
        record = Deployment(
            deployment="text-1", line="text", digest=digest, model="m", version="1", bento="b:1", time=1.0
        )
        record_deployment(self.params.events.url, record)
        with opened(self.params.events.url) as engine, held(engine, "text", "ada", 30) as lease:
            store.register(engine, "text-1", Note("ada", "try"), lease.token)

    def checkpoint(self, base: Path, bias: float = 0.0) -> None:
        """One whose adapter changes nothing, or something."""
        folder = self.root / "artifacts/text/checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        tuned = add_adapter(load_base(base, torch.float32), rank=2, alpha=2, dropout=0.0)
        for name, weights in tuned.named_parameters():
            if "lora_B" in name:
                weights.data.fill_(bias)
        tuned.save_pretrained(str(folder))
        tiny_chat(base).format.write(folder)
        self.made = seal(folder, line="text", kind="checkpoint", parents={}, parameters={}, metrics={}).digest

    def answer(self, deployment: str = "text-1", changed: bool = False) -> None:
        engine = load_text(self.export)
        request = TextRequest((("user", "a red apple"),), 12, 0.0, traced=True)
        trace: dict[str, Any] = vars(engine.generate([request])[0].trace)
        engine.close()
        if changed:
            trace = trace | {"tokens": [(token + 50) % 256 for token in trace["tokens"]]}
        job = {"messages": request.messages, "temperature": 0.0, "top_p": 1.0}
        row = Sampled(
            request_id=f"{deployment}-{changed}",
            time=time.time(),
            line="text",
            deployment=deployment,
            job=json.dumps(job),
            answer=json.dumps(trace),
        )
        with opened(self.params.events.url) as engine_of_events:
            commit(engine_of_events, [row])

    def run(self) -> rechecks.Summary:
        with opened(self.params.events.url) as engine:
            recheck.keep_references(engine, self.params)
            recheck.step(engine, "text", self.params)
            return rechecks.summary(engine, "text", time.time())


@pytest.fixture
def project(tmp_path: Path, tiny_base: Path, tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, tiny_base, tiny_export, monkeypatch)


def test_answers_are_judged_by_the_weights_that_gave_them(project: Project, tiny_base: Path) -> None:
    assert project.run().counts == {"same": 0, "fault": 0, "unknown": 0}  # keeps the reference
    project.checkpoint(tiny_base, bias=0.5)  # a training replaces it
    project.answer()
    assert project.run().counts == {"same": 1, "fault": 0, "unknown": 0}
    project.answer(changed=True)
    seen = project.run()
    assert seen.counts["fault"] == 1 and seen.waiting == 0
    assert "FAULT text-1-True" in rechecked("text", project.params)


def test_what_cannot_be_computed_is_unknown_and_says_why(project: Project, tiny_base: Path) -> None:
    project.checkpoint(tiny_base, bias=0.5)  # before anything was kept
    project.answer()
    project.answer("text-of-nobody")
    assert project.run().counts == {"same": 0, "fault": 0, "unknown": 2}
    assert not [*(project.root / "references").glob("*")]


def test_a_reference_goes_with_its_deployment(project: Project) -> None:
    project.run()
    assert [path.name for path in (project.root / "references").iterdir()] == ["text-1"]
    references.keep([])
    assert [*(project.root / "references").iterdir()] == []


def test_the_champion_before_keeps_its_reference_for_a_rollback(project: Project) -> None:
    project.run()
    url = project.params.events.url
    second = get_deployment(url, "text-1")
    assert second is not None
    record_deployment(url, second.model_copy(update={"deployment": "text-2"}))
    with opened(url) as engine, held(engine, "text", "ada", 30) as lease:
        release.promote(engine, "text-1", {}, lease.token)
        release.promote(engine, "text-2", {}, lease.token)
        assert {each.deployment: each.state for each in store.current(engine, "text")}["text-1"] is State.RETIRED
    project.run()
    assert {path.name for path in (project.root / "references").iterdir()} == {"text-1", "text-2"}


@pytest.mark.parametrize(("memory", "unknown"), [((0, 10**12), 0), ((0, 0), 1)])
def test_what_has_no_room_now_waits_and_what_never_has_is_unknown(
    project: Project, monkeypatch: pytest.MonkeyPatch, memory: tuple[int, int], unknown: int
) -> None:
    project.run()
    project.answer()
    monkeypatch.setattr(references, "host_memory", lambda: memory)
    seen = project.run()
    assert (seen.counts["unknown"], seen.waiting) == (unknown, 1 - unknown)


def test_a_picture_is_painted_again_by_the_package_that_painted_it(
    tmp_path: Path, tiny_image_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load()
    params = params.model_copy(
        update={"events": params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})}
    )
    monkeypatch.setattr(references, "ROOT", tmp_path)
    monkeypatch.setattr(references, "REFERENCES", tmp_path / "references")
    monkeypatch.setattr(recheck, "logger", lambda: logging.getLogger("recheck"))
    shutil.copytree(tiny_image_export, tmp_path / "artifacts/image/package")
    digest = references.read_manifest(tiny_image_export).digest
    record = Deployment(
        deployment="image-1", line="image", digest=digest, model="m", version="1", bento="b:1", time=1.0
    )
    record_deployment(params.events.url, record)
    pixels = load_sampler(tiny_image_export, "openvino").generate([ImageRequest("red apple", 7, 4, 2.0)])[0]
    picture = json.dumps({"png": base64.b64encode(encode_png(pixels, 16)).decode()})
    jobs = [{"prompt": "red apple", "seed": seed, "steps": 4, "guidance": 2.0, "side": 16} for seed in (7, 8)]
    rows = [
        Sampled(
            request_id=f"img-{job['seed']}",
            time=time.time(),
            line="image",
            deployment="image-1",
            job=json.dumps(job),
            answer=picture,
        )
        for job in jobs
    ]
    with opened(params.events.url) as engine:
        commit(engine, rows)
        recheck.keep_references(engine, params)
        recheck.step(engine, "image", params)
        seen = rechecks.summary(engine, "image", time.time())
    assert seen.counts == {"same": 1, "fault": 1, "unknown": 0}
    assert seen.fault.startswith("img-8:") and "dB" in seen.fault


@pytest.fixture
def served_pipeline(
    tiny_pipeline: TinyPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Params, Deployment]:
    """A released export of a brought pipeline, whose adapter changes nothing."""
    params = load()
    events = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    monkeypatch.setattr(references, "ROOT", tmp_path)
    monkeypatch.setattr(references, "REFERENCES", tmp_path / "references")
    monkeypatch.setattr(recheck, "logger", lambda: logging.getLogger("recheck"))
    base, family = tiny_pipeline.base, tiny_pipeline.family
    source = tmp_path / "data/base/image"
    source.mkdir(parents=True)
    named = {"source": str(base), "files": digests(base)}
    sealed = seal(source, line="image", kind="base", parents={}, parameters=named, metrics={})
    checkpoint = tmp_path / "artifacts/image/checkpoint"
    adapters.save(adapters.add(family.read_network(base), family, 2, 2.0), family, checkpoint)
    parents = {"base": sealed.digest}
    made = seal(checkpoint, line="image", kind="checkpoint", parents=parents, parameters={}, metrics={})
    package = tmp_path / "artifacts/image/package"
    shutil.copytree(tiny_pipeline.export, package, ignore=shutil.ignore_patterns("manifest.json"))
    parents |= {"checkpoint": made.digest}
    digest = seal(package, line="image", kind="package", parents=parents, parameters={}, metrics={}).digest
    record = Deployment(deployment="i", line="image", digest=digest, model="m", version="1", bento="b:1", time=1.0)
    record_deployment(events.url, record)
    return params.model_copy(update={"events": events}), record


def too_large(graph: Path) -> None:
    """The largest matrix of an OpenVINO graph becomes twice as large."""
    constants = re.findall(r'<data element_type="f32" shape="[^"]*" offset="(\d+)" size="(\d+)"', graph.read_text())
    offset, size = max(((int(a), int(b)) for a, b in constants), key=lambda pair: pair[1])
    weights = np.memmap(graph.with_suffix(".bin"), np.float32, "r+", offset, (size // 4,))
    weights *= 2
    weights.flush()


@pytest.mark.parametrize("tiny_pipeline", ["sdxl"], indirect=True)
def test_a_pipelines_picture_is_painted_again_by_diffusers(
    served_pipeline: tuple[Params, Deployment], tiny_pipeline: TinyPipeline, tmp_path: Path
) -> None:
    params, _ = served_pipeline
    broken = tmp_path / "broken"
    shutil.copytree(tiny_pipeline.export, broken)
    too_large(broken / "pipeline" / tiny_pipeline.family.network_name / "openvino_model.xml")
    jobs: list[tuple[str, Path, int | None]] = [
        *(("honest", tiny_pipeline.export, None), ("small", tiny_pipeline.export, 32)),
        *(("large", tiny_pipeline.export, 128), ("fault", broken, None)),
    ]
    rows = []
    for name, export, side in jobs:
        prompt = "an apple " * 20  # of which not all is read
        pixels = load_pipeline(export).generate([ImageRequest(prompt, 7, 3, 2.0, side if side == 32 else None)])[0]
        job = {"prompt": prompt, "seed": 7, "steps": 3, "guidance": 2.0, "side": side}
        answer = {"png": base64.b64encode(encode_png(pixels, side)).decode()}
        row = {"job": json.dumps(job), "answer": json.dumps(answer), "line": "image", "deployment": "i"}
        rows.append(Sampled.model_validate(row | {"request_id": name, "time": time.time()}))
    with opened(params.events.url) as engine:
        commit(engine, rows)
        recheck.keep_references(engine, params)
        shutil.rmtree(tmp_path / "artifacts")  # a training replaces them
        recheck.step(engine, "image", params)
        seen = rechecks.summary(engine, "image", time.time())
    assert seen.counts == {"same": 3, "fault": 1, "unknown": 0}
    assert "of 255 steps from what diffusers paints; f32 allows 0.25" in seen.fault
    assert not [*(tmp_path / "references").rglob("*.bin")]  # of the package nothing but what describes it


def test_a_picture_that_was_judged_is_on_record_before_the_next_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load()
    url = f"sqlite:///{tmp_path / 'events.db'}"
    params = params.model_copy(update={"events": params.events.model_copy(update={"url": url})})
    record_deployment(
        url, Deployment(deployment="i", line="image", digest="0" * 64, model="m", version="1", bento="b:1", time=1.0)
    )
    row = {"time": time.time(), "line": "image", "deployment": "i", "answer": "{}"}

    def judged(kept: tuple[dict[str, Any], dict[str, Any]]) -> rechecks.Judgement:
        if kept[0]["number"]:
            raise KeyboardInterrupt  # the machine is switched off
        return rechecks.Judgement(rechecks.Verdict.SAME, "")

    monkeypatch.setattr(references, "picture_judge", lambda deployment, least: judged)
    with opened(url) as engine:
        jobs = [json.dumps({"number": number}) for number in range(2)]
        commit(engine, [Sampled.model_validate(row | {"request_id": job, "job": job}) for job in jobs])
        with pytest.raises(KeyboardInterrupt):
            recheck.step(engine, "image", params)
        seen = rechecks.summary(engine, "image", time.time())
        assert (seen.counts[rechecks.Verdict.SAME], seen.waiting) == (1, 1)
        # Where there is no more time, one is judged, and the others wait for the next hour.
        commit(engine, [Sampled.model_validate(row | {"request_id": "later", "job": json.dumps({"number": 0})})])
        monkeypatch.setattr(recheck, "LONGEST", 0.0)
        monkeypatch.setattr(
            references, "picture_judge", lambda *_: lambda kept: rechecks.Judgement(rechecks.Verdict.SAME, "")
        )
        recheck.step(engine, "image", params)
        seen = rechecks.summary(engine, "image", time.time())
    assert (seen.counts[rechecks.Verdict.SAME], seen.waiting) == (2, 1)
