"""A tiny pipeline with an adapter, its export, and faults of either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from components.config import ExportImage, load
from components.evaluation import verify_pipeline
from components.export.pipeline import write_pipeline
from components.models.pipelines import adapted, adapters, family_of
from tests.conftest import ROOT
from tests.tiny_pipelines import WRITERS

PARAMS = load(ROOT / "params.yaml")


class Made:
    def __init__(self, folder: Path, name: str, parameters: ExportImage, steps: int) -> None:
        self.base, self.checkpoint, self.export = (folder / part for part in ("base", "checkpoint", "export"))
        WRITERS[name](self.base)
        self.family = family_of(self.base)
        network = adapters.add(self.family.read_network(self.base), self.family, 2, 2.0)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for parameter in (value for key, value in network.named_parameters() if "lora_B" in key):
                parameter.normal_(std=0.5)
        adapters.save(network, self.family, self.checkpoint)
        self.serving = PARAMS.serving.model_copy(update={"image_steps": steps})
        write_pipeline(self.read, self.family, self.base, parameters, self.serving, self.export)

    def read(self) -> Any:
        return adapted(self.base, self.checkpoint)

    def measured(self) -> dict[str, Any]:
        return verify_pipeline.measure(
            *(self.export, self.base, self.family, self.checkpoint),
            *(["a red apple"], self.serving, PARAMS.verify.image),
        )

    def faults(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """One after another, of the reference, which is the export's as much: names them."""

        def larger(base: Path, checkpoint: Path) -> Any:
            pipeline = adapted(base, checkpoint)
            matrices = (p for p in self.family.network(pipeline).parameters() if p.ndim == 2)
            max(matrices, key=torch.Tensor.numel).data *= 1.05
            return pipeline

        def later(base: Path, checkpoint: Path) -> Any:
            pipeline = adapted(base, checkpoint)
            config = pipeline.scheduler.config
            change = {"shift": 1.05 * config.shift} if "shift" in config else {"beta_end": 1.05 * config.beta_end}
            if config.get("use_dynamic_shifting"):
                change = {name: 1.05 * config[name] for name in ("base_shift", "max_shift")}
            pipeline.scheduler = type(pipeline.scheduler).from_config({**config, **change})
            return pipeline

        for name, read in (("a matrix 5 % larger", larger), ("times 5 % otherwise", later)):
            with monkeypatch.context() as patched:
                patched.setattr(verify_pipeline, "adapted", read)
                yield name
