"""What a user does who has an API, conversations and a Qwen3-shaped folder: README's commands on a clone, and nothing
changed but params.yaml.

The API is a stand-in without a model (`tests.endpoint_standin`), its users are SIMULATED, and the image line, which is
not at trial here, is a tiny package. Everything else is real: stages, gate, release, Bentos, gateway, trial, adapters.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from components.artifact import read_manifest, seal
from components.config.document import read_yaml, write_yaml
from components.events.read import finished
from flows import environment
from tests.bentos.processes import free_port
from tests.conftest import ROOT
from tests.endpoint_standin import Message, StandIn, endpoint_standin
from tests.infra.prometheus.test_delivery import eventually
from tests.tiny_qwen3 import listed, orders, write_conversations, write_qwen3

ROWS, BASE_STEPS = 400, 800
PRICE = {"input": 2.0, "output": 8.0, "currency": "USD"}
TRIAL = {"min_requests": 1, "min_seconds": 2, "attribution_seconds": 1}  # what takes days with real users
AT_A_TIME = 12


def chatty(messages: list[Message]) -> str:
    return f"Sure! I have noted your order of {messages[-1]['content']}, anything else?"


@dataclass
class Project:
    """A clone with parameters of its own; `answers` holds what the simulated users were answered, by request."""

    folder: Path
    ports: dict[str, int]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: int = 0

    def set(self, **sections: dict[str, Any]) -> None:
        """Change params.yaml: section with its line or key → what is set there."""
        document = read_yaml(self.folder / "params.yaml")
        for path, values in sections.items():
            section, _, line = path.partition("__")
            (document[section][line] if line else document[section]).update(values)
        write_yaml(self.folder / "params.yaml", document)

    def base(self, **base: Any) -> None:
        document = read_yaml(self.folder / "params.yaml")
        document["base"]["text"] = base
        write_yaml(self.folder / "params.yaml", document)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m …` as in a shell of the user's."""
        mine = (*environment.SETTINGS, *environment.SECRETS, *environment.PREFECT_AUTH, "PREFECT_API_URL")
        own = {name: value for name, value in os.environ.items() if name not in mine}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=own | {"PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    def dvc(self, *arguments: str) -> str:
        return said(self.run("dvc", *arguments))

    def atelier(self, *arguments: str) -> str:
        return said(self.run("flows.cli", *arguments))

    def metrics(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "metrics" / "text" / f"{name}.json").read_bytes())
        return document

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway_port']}/v1"

    @property
    def key(self) -> str:
        return (self.folder / ".atelier/api-key").read_text().strip()

    def visit(self, phrases: list[str], plan: str = "") -> list[dict[str, Any]]:
        """A new SIMULATED user for each phrase, who likes the answer that is wanted and dislikes any other."""
        return asyncio.run(self._visit(phrases, plan))

    async def _visit(self, phrases: list[str], plan: str) -> list[dict[str, Any]]:
        turn = asyncio.Semaphore(AT_A_TIME)
        headers = {"authorization": f"Bearer {self.key}"}
        segment = {"metadata": {"plan": plan}} if plan else {}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as client:

            async def one(number: int, phrase: str) -> dict[str, Any]:
                name = f"simulated-{number}"
                question = {"model": "atelier-text", "messages": [{"role": "user", "content": phrase}], "user": name}
                async with turn:
                    answer = await client.post("/chat/completions", json=question | segment)
                    assert answer.status_code == 200, answer.text
                    text = answer.json()["choices"][0]["message"]["content"]
                    liked = text == listed(phrase)
                    reaction = {"request_id": answer.json()["id"], "kind": "like", "value": int(liked), "user": name}
                    (await client.post("/feedback", json=reaction)).raise_for_status()
                return {"id": answer.json()["id"], "text": text, "liked": liked}

            first, self.users = self.users, self.users + len(phrases)
            return [*await asyncio.gather(*(one(first + n, phrase) for n, phrase in enumerate(phrases)))]


def said(ended: subprocess.CompletedProcess[str]) -> str:
    """What a command said; it has to end well."""
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-6000:]
    return ended.stdout


@pytest.fixture
def project(tmp_path: Path, assets: Path, tiny_image_export: Path) -> Iterator[Project]:
    """The clone, with the files that the user brings beside it; all that runs in it ends with the test."""
    folder = tmp_path / "atelier"
    if subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=False).returncode:
        pytest.skip("this is no git checkout")
    (folder / "data/assets").symlink_to(assets)
    package = shutil.copytree(tiny_image_export, folder / "artifacts/image/package")
    seal(package, line="image", kind="package", parents={}, parameters={}, metrics={})
    document = read_yaml(folder / "params.yaml")
    ports = {}
    for section, key in (parameter.split(".") for parameter in environment.PORTS.values()):
        ports[key] = free_port()
        document[section][key] = f"http://127.0.0.1:{ports[key]}" if key == "url" else ports[key]
    write_yaml(folder / "params.yaml", document)
    write_conversations(tmp_path / "orders.jsonl", ROWS, seed=1)
    own = Project(folder, ports)
    own.set(
        prepare__text={"source": "jsonl", "path": str(tmp_path / "orders.jsonl")},
        train__text={"system_prompt": "", "max_steps": 200, "learning_rate": 0.004},
        release=TRIAL,
        serving={"recheck": 1.0},
        learning={"min_new": 10, "min_likes": 1},
    )
    try:
        yield own
    finally:
        own.run("flows.cli", "down")


@pytest.fixture
def api() -> Iterator[StandIn]:
    with endpoint_standin() as standin:
        standin.answer = chatty
        standin.pause = 0.3  # as a hosted one: a candidate that takes three times as long as the champion is stopped
        yield standin


def test_an_api_is_beaten_by_a_model_of_ones_own_which_then_learns(
    project: Project, api: StandIn, tmp_path: Path
) -> None:
    first = an_api_serves(project, api)
    a_model_is_trained(project, tmp_path)
    second = it_is_better_and_goes_on_trial(project, first)
    it_becomes_champion(project, second)
    what_happened_is_told(project, first, second)
    an_adapter_is_tried(project)
    it_learns_from_its_users_with_every_weight_and_packed(project)
    long_conversations_are_split(project)


def an_api_serves(project: Project, api: StandIn) -> str:
    project.base(endpoint=api.url, model="stand-in", price=PRICE)
    refused = project.run("dvc", "repro", "base_text")
    assert refused.returncode and "is an API, with no weights to train from; `atelier pipeline run`" in refused.stderr
    project.dvc("repro", "split@text")
    api.refusals[:] = [(401, {})] * 48
    refused = project.run("flows.cli", "release", "start")
    assert refused.returncode == 1 and "answers 401: no: 401; set ATELIER_ENDPOINT_KEY" in refused.stderr
    assert not (project.folder / ".atelier/deployed").exists()
    api.refusals.clear()
    api.requests.clear()
    first = released(project.atelier("release", "start"))
    metrics = read_manifest(project.folder / "artifacts/text/endpoint").metrics
    assert metrics["samples"] > 20 and metrics["endpoint"]["exact"] == 0
    client = OpenAI(base_url=project.url, api_key=project.key)  # as README has it
    asked = client.chat.completions.create(
        model="atelier-text", messages=[{"role": "user", "content": "two teas and five cakes"}]
    )
    assert asked.choices[0].message.content == chatty([{"content": "two teas and five cakes"}])
    assert first in project.atelier("report", "why", asked.id)
    project.visit(orders(40, 2))
    assert {request["temperature"] for request in api.requests} >= {0.33, 0.7}  # the experiment's two variants
    return first


def a_model_is_trained(project: Project, tmp_path: Path) -> None:
    brought = write_qwen3(tmp_path / "my-qwen3", BASE_STEPS)
    project.base(model=str(brought), licence=None)
    card = project.atelier("model", "show", str(brought))
    assert "qwen3" in card and "missing          nothing" in card
    project.dvc("repro", "package@text")
    gate, evaluated = project.metrics("gate"), project.metrics("evaluate")
    assert gate["passed"] and evaluated["after"]["exact"] > 0.3 > evaluated["before"]["exact"]
    assert "naming" not in evaluated["after"]  # nothing here means a picture


def it_is_better_and_goes_on_trial(project: Project, first: str) -> str:
    second = released(project.atelier("release", "start", "--canary"))
    (evidence,) = (project.folder / ".atelier/comparisons/text").glob("*.json")
    document = json.loads(evidence.read_bytes())
    assert document["compared"] == "answers, as an endpoint has no perplexity"
    (check,) = document["checks"]
    assert document["passed"] and check["value"] > 0  # it is better, and not only little worse
    assert first in project.atelier("status")
    return second


def it_becomes_champion(project: Project, second: str) -> None:
    """Shadow, canary of 1, 5, 25 and 50 % of users, A/B, champion; its users like it more."""
    states: list[str] = []
    for number in range(20):
        states += re.findall(r"^text: \S+ is (\w+): ", project.atelier("release", "step"))
        if states[-1:] == ["champion"]:
            break
        project.visit(orders(300 if states[-1:] == ["canary_1"] else 60, 10 + number))
    history = project.atelier("release", "history", "text")
    assert states == ["canary_1", "canary_5", "canary_25", "canary_50", "ab", "champion"], history
    assert second in history


def what_happened_is_told(project: Project, first: str, second: str) -> None:
    (answer,) = project.visit(["nine pies and two rolls"])
    why = project.atelier("report", "why", answer["id"])
    assert second in why and "my-qwen3" in why and "samples: CC0-1.0" in why
    for role in ("data", "base", "checkpoint", "export"):
        assert any(line.startswith(role) and "(here)" in line for line in why.splitlines()), why
    page = project.folder / project.atelier("report", "write").strip().splitlines()[-1]
    beside = {row["deployment"]: row for row in json.loads(page.with_suffix(".json").read_bytes())["deployments"]}
    assert beside[first]["cost_of_thousand"] > 0 and beside[first]["currency"] == "USD" and beside[first]["liked"] == 0
    assert beside[second]["cost_of_thousand"] is None and beside[second]["liked"] > 0 and beside[second]["p50"]
    assert "text-temperature" in project.atelier("experiment", "list")
    told = project.atelier("report", "recheck")
    assert " same" in told and "FAULT" not in told, told


def an_adapter_is_tried(project: Project) -> None:
    project.visit(orders(200, 50), plan="paid")
    said = project.atelier("learn", "adapt")
    assert "adapter-plan=paid-" in said and "begins" in said, said
    events = f"sqlite:///{project.folder}/.atelier/events.db"

    def by_adapter() -> str:
        """One answer that it wrote: it is loaded when it is first asked for."""
        answers = project.visit(orders(40, 51), plan="paid")
        return next((a["id"] for a in answers if (finished(events, a["id"]) or {}).get("adapter")), "")

    answer = eventually(by_adapter, 60)
    assert "\nadapter " in project.atelier("report", "why", answer)


def it_learns_from_its_users_with_every_weight_and_packed(project: Project) -> None:
    project.set(train__text={"adapter": "full", "learning_rate": 0.001, "packing": True})
    said = project.atelier("learn", "run")
    assert "learned from" in said and "released" in said, said
    assert project.metrics("train")["steps_for_learned"] > 0 and project.metrics("gate")["passed"]
    assert not (project.folder / "artifacts/text/checkpoint/adapter_config.json").exists()


def long_conversations_are_split(project: Project) -> None:
    """Of three turns two fit; DoRA beside it."""
    longest = project.metrics("train")["tokens_max"]
    project.set(
        train__text={"adapter": "dora", "learning_rate": 0.004, "overflow": "split", "max_length": longest - 20}
    )
    said = project.dvc("repro", "package@text")
    trained = project.metrics("train")
    assert trained["pairs_split"] > 0 and trained["answers_too_long"] == 0 and trained["pairs_too_long"] == 0
    assert f"{trained['pairs_split']} of " in said and "are split between turns" in said
    assert project.metrics("gate")["passed"]


def released(said: str) -> str:
    """The text line's deployment."""
    return next(line.split(": ")[1] for line in said.splitlines() if line.startswith("text: "))
