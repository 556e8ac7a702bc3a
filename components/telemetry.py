"""Libraries tell their makers of each use, unless they are told not to before they are imported."""

from __future__ import annotations

import os
import sys

OFF = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def turn_off() -> None:
    """Set what is not set yet. OpenVINO's reads no variable; its tools do without the package that reports."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails
