"""Fixtures shared by the suite: telemetry off, the asset packages fetched once, and tiny models made once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

import components  # noqa: F401 - the tests' own clients bypass proxies, too
from components.artifact import seal
from tests.label_studio_server import label_studio as label_studio  # a session fixture, for all
from tests.mlflow_store import mlflow_store as mlflow_store  # likewise
from tests.prometheus_binaries import binaries as binaries  # likewise
from tests.schedule import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

if TYPE_CHECKING:
    from components.models.pipelines import Family

ROOT = Path(__file__).resolve().parent.parent

for name, value in {
    "ANONYMIZED_TELEMETRY": "false",
    "ATELIER_ENGINE_TOKEN": "a token of tests",
    "BENTOML_DO_NOT_TRACK": "True",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(name, value)


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked asset packages; fetched (resumably, digests checked) where they are not yet."""
    shared = tmp_path_factory.getbasetemp().parent  # by the workers of a run, and by runs beside each other
    fetched = shared / f"assets-of-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    with FileLock(shared / "assets.lock"):
        if not fetched.exists():
            subprocess.run([sys.executable, "-m", "components.data.fetch"], cwd=ROOT, check=True)
            fetched.touch()
    return ROOT / "data" / "assets"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder of two small layers."""
    from tests.tiny_language import write_tiny_base

    return write_tiny_base(tmp_path_factory.mktemp("text") / "base")


@pytest.fixture(scope="session")
def tiny_export(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a sealed int8 export."""
    from tests.tiny_language import write_tiny_export

    return write_tiny_export(tiny_base, tmp_path_factory.mktemp("text-export") / "export")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base: Path, tiny_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on top of that export, in a project of its own."""
    from tests.tiny_adapter import write_adapter

    return write_adapter(tmp_path_factory.mktemp("adapter-project"), tiny_base, tiny_export)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caption encoder of one random layer, in MiniLM's layout."""
    from tests.tiny_image import write_tiny_encoder

    return write_tiny_encoder(tmp_path_factory.mktemp("image") / "encoder")


@pytest.fixture(scope="session")
def tiny_image_export(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image model as a sealed float32 export for all three engines."""
    from components.config import ExportImage, load
    from components.export.image import write_export
    from tests.tiny_image import CAPTIONS, tiny_denoiser

    folder = tmp_path_factory.mktemp("image-export") / "export"
    parameters = ExportImage(weight_format="f32", calibration=8)
    write_export(tiny_denoiser(), tiny_encoder, CAPTIONS, parameters, load(ROOT / "params.yaml").serving, folder)
    seal(folder, line="image", kind="export", parents={}, parameters={}, metrics={})
    return folder


@dataclass(frozen=True)
class TinyPipeline:
    """A brought pipeline (`base`), its sealed float32 export, and an adapter of it that the export has not."""

    base: Path
    family: Family
    export: Path
    checkpoint: Path


@pytest.fixture(scope="session", params=["sdxl", "sd3"])
def tiny_pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyPipeline:
    """A tiny pipeline with random weights of each family that is served."""
    import torch

    from components.config import ExportImage, load
    from components.export.pipeline import write_pipeline, write_pipeline_golden
    from components.models.pipelines import adapters, family_of
    from tests.tiny_pipelines import WRITERS

    folder = tmp_path_factory.mktemp(f"pipeline-{request.param}")
    base = WRITERS[request.param](folder / "base")
    family, serving = family_of(base), load(ROOT / "params.yaml").serving.model_copy(update={"image_steps": 3})
    network = adapters.add(family.read_network(base), family, 2, 2.0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)  # as trained: an adapter starts from nothing
    (folder / "checkpoint").mkdir()
    adapters.save(network, family, folder / "checkpoint")
    seal(folder / "checkpoint", line="image", kind="checkpoint", parents={}, parameters={}, metrics={})
    export = folder / "export"
    parameters = ExportImage(weight_format="f32", calibration=1)
    runtime = write_pipeline(lambda: family.read(base), family, base, parameters, serving, export)
    write_pipeline_golden(family.read(base), runtime.description, ["a red apple"], export)
    seal(export, line="image", kind="export", parents={}, parameters={}, metrics={})
    return TinyPipeline(base, family, export, folder / "checkpoint")
