"""The environment every process of the stack is started with: state under `.atelier/`, telemetry off, loopback only.

Import this before Prefect, BentoML or MLflow: they read these variables when they are imported. Nothing here overrides
what the user has set.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from operator import attrgetter
from pathlib import Path
from urllib.parse import urlsplit

from components import checkout, engine_token, paths
from components.api_keys import KEYS, accepted_keys
from components.config import Params
from components.endpoint_keys import KEY, KEYS_FOLDER, key_file
from components.lines import LINES
from components.loopback import LOOPBACK

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / paths.STATE
ENCODER = ROOT / paths.ENCODER
# The parameter that holds the port of each program that listens.
PORTS = {
    "gateway": "serving.gateway_port",
    **{program: f"serving.{key}" for line in LINES.values() for program, key in line.ports.items()},
    "mlflow": "stack.mlflow_port",
    "prefect": "stack.prefect_port",
    "prometheus": "stack.prometheus_port",
    "alertmanager": "stack.alertmanager_port",
    "label-studio": "annotation.url",
}

SETTINGS = {
    "BENTOML_HOME": str(STATE / "bentoml"),
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # else eight processes of 190 MB each, for jobs that nobody sends
    "PREFECT_HOME": str(STATE / "prefect"),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # bars redraw a line, which in a task's log is hundreds of lines
}

# Who signs in to the pages of Prefect and MLflow, with the password in `.atelier/ui-password`.
UI_USER, UI_PASSWORD = "atelier", "ui-password"
HOW_TO_SIGN_IN = f"user {UI_USER}, password in {paths.STATE / UI_PASSWORD} (Prefect: both, with a colon between)"
PREFECT_AUTH = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")  # of the server and of its clients

# Where a server listens that is to be reached at all addresses of the machine → where this machine itself reaches it.
EVERYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - the user's choice, no default

# Variable → file under `.atelier/`. The second keys the hash of user ids: with another one, every user is a stranger.
SECRETS = {
    "ATELIER_API_KEYS": "api-key",
    "ATELIER_USER_SECRET": "user-secret",
    engine_token.VARIABLE: "engine-token",
}


# What the gateway accepts now: programs inherit the variable as it was when their supervisor was started.
ACCEPTED_KEYS = "accepted-keys"
# The key of each endpoint by its address: a release into a running stack has to bring one, and so may a new key.
ENDPOINT_KEYS = "endpoint-keys"
# What users wrote lies here; of nobody else's business on a machine of several.
PRIVATE = (paths.STATE, paths.FEEDBACK, paths.SEGMENTS)


def apply() -> None:
    """Set what is not set yet, and put this interpreter's own commands first on the path.

    What is written from now on is for its owner alone.
    """
    os.umask(0o077)
    STATE.mkdir(exist_ok=True)
    checkout.prepare(ROOT)
    for folder in PRIVATE:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another user's, who runs this project
            (ROOT / folder).chmod(0o700)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in PREFECT_AUTH:  # also of the temporary server that Prefect starts for a flow without the stack
        os.environ.setdefault(name, ui_login())
    # `python` in dvc.yaml and the tools' commands must be those of this environment, whether or not it is activated.
    binaries = str(Path(sys.executable).parent)
    if binaries not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = binaries + os.pathsep + os.environ.get("PATH", "")


def ui_login() -> str:
    """User and password for the pages of Prefect and MLflow, with a colon between."""
    return f"{UI_USER}:{read_or_create(STATE / UI_PASSWORD)}"


def provide_secrets(*variables: str) -> None:
    """Where the user has set none, hand over this machine's own, made once and readable by its owner alone.

    All of them, unless some are named.
    """
    for variable in variables or SECRETS:
        if not os.environ.get(variable, "").strip():
            os.environ[variable] = read_or_create(STATE / SECRETS[variable])


def accept_keys() -> None:
    """Have the gateway accept the API keys of this environment and no others: at once, and whenever it is started."""
    text = os.environ[KEYS]
    accepted_keys(text)
    _write_secret(STATE / ACCEPTED_KEYS, text)


def keep_endpoint_key(params: Params) -> None:
    """Keep this environment's key for the address of `base.text.endpoint`, and have endpoints get what is kept alone.

    Without one in the environment, as in a scheduled flow, the key of an earlier command stays.
    """
    os.environ[KEYS_FOLDER] = str(STATE / ENDPOINT_KEYS)
    key, url = os.environ.get(KEY, "").strip(), params.base.text.endpoint
    if key and url:
        (STATE / ENDPOINT_KEYS).mkdir(mode=0o700, exist_ok=True)
        _write_secret(key_file(STATE / ENDPOINT_KEYS, url), key)


def _write_secret(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.touch(0o600)
    partial.chmod(0o600)
    partial.write_text(text)
    partial.replace(path)


def read_or_create(path: Path) -> str:
    """The secret in a file, made where there is none."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text().strip()


def ports(params: Params) -> dict[str, int]:
    """The port of each program that listens; a URL without one means that of its scheme."""
    values = {program: attrgetter(parameter)(params) for program, parameter in PORTS.items()}
    url = urlsplit(params.annotation.url)
    return values | {"label-studio": url.port or {"http": 80, "https": 443}[url.scheme]}


def service_urls(params: Params) -> dict[str, str]:
    """Where each part of the running stack answers programs on this machine."""
    urls = {program: f"http://{LOOPBACK}:{port}" for program, port in ports(params).items()}
    host = EVERYWHERE.get(params.serving.host, params.serving.host)
    gateway = f"http://{f'[{host}]' if ':' in host else host}:{params.serving.gateway_port}"
    return urls | {"gateway": gateway, "label-studio": params.annotation.url}


def listening_host(program: str, params: Params) -> str:
    """The address a program listens on: others may ask the gateway alone."""
    return params.serving.host if program == "gateway" else LOOPBACK
