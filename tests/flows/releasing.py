"""A machine in an empty folder: its services and MLflow's aliases are noted instead of touched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from components import config
from components.artifact import write_text
from components.config import Params, load
from components.events.read import record_deployment
from components.events.schema import Deployment
from components.registry import registry
from flows import release, stack


class Machine:
    """`mlflow` holds digests by alias and `restarted` what was started anew."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.mlflow: dict[str, str] = {}
        self.restarted: list[str] = []
        params = load()
        events = params.events.model_copy(update={"url": f"sqlite:///{folder / 'events.db'}"})
        self.params: Params = params.model_copy(update={"events": events})
        for module in (release, stack):
            patch.setattr(module, "STATE", folder)
        patch.setattr(registry, "project_aliases", self._project)
        patch.setattr(stack, "running", lambda: {"text"})
        patch.setattr(stack, "restart", lambda params, program: self.restarted.append(program))

    def deploy(self, name: str) -> str:
        """What the release flow has done when it comes to recording a release; the digest repeats the last letter."""
        record = Deployment(
            deployment=f"text-{name}",
            line="text",
            digest=name[-1] * 64,
            model="m",
            version="1",
            bento=f"b:{name}",
            time=1.0,
        )
        record_deployment(self.params.events.url, record)
        write_text(self.folder / "deployed" / "text.json", json.dumps(record.model_dump()))
        return record.deployment

    def _project(
        self, line: str, wanted: Mapping[str, str], settings: config.Registry
    ) -> dict[str, tuple[str | None, str | None]]:
        before, self.mlflow = self.mlflow, dict(wanted)
        names = before.keys() | wanted.keys()
        return {name: (before.get(name), wanted.get(name)) for name in names if before.get(name) != wanted.get(name)}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)
