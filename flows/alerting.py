"""Prometheus and Alertmanager in the stack: whether each can be started on this machine, and the command it becomes.

Both are Debian packages and no part of the environment, so the stack runs without them and waits for neither.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from components import engine_token
from components.config import Params
from components.loopback import LOOPBACK
from components.stage import StageError
from flows.environment import ROOT, STATE, service_urls
from flows.program_environment import WEBHOOK

CONFIGURATION = ROOT / "infra" / "prometheus"
PACKAGES = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}


def obstacle(program: str) -> str | None:
    """Why the program cannot be started here, in words; None where it can."""
    package = PACKAGES[program]
    if shutil.which(package) is None:
        return f"{package} is not installed; apt-get install --no-install-recommends {package}"
    if program == "alertmanager" and not os.environ.get(WEBHOOK, "").strip():
        return f"{WEBHOOK} is empty; set it to the address that is to be told of alerts"
    return None


def require(program: str) -> None:
    """Raise `StageError` with what is in the way."""
    reason = obstacle(program)
    if reason:
        raise StageError(f"{program} cannot be started: {reason}")


def prometheus(params: Params) -> list[str]:
    require("prometheus")
    file = write_prometheus(params, STATE / "prometheus.yml")
    return [
        *("prometheus", f"--config.file={file}", f"--storage.tsdb.path={STATE / 'prometheus'}"),
        f"--web.listen-address={LOOPBACK}:{params.stack.prometheus_port}",
    ]


def alertmanager(params: Params) -> list[str]:
    require("alertmanager")
    file = write_configuration(os.environ[WEBHOOK].strip(), STATE / "alertmanager.yml")
    return [
        *("prometheus-alertmanager", f"--config.file={file}", f"--storage.path={STATE / 'alertmanager'}"),
        f"--web.listen-address={LOOPBACK}:{params.stack.alertmanager_port}",
        "--cluster.listen-address=",  # one of them needs no gossip, which listens on every interface
    ]


def write_prometheus(params: Params, path: Path) -> Path:
    """The repository's configuration with the addresses of params.yaml and the engines' token, a secret."""
    addresses = {name.replace("-", "_"): urlsplit(url).netloc for name, url in service_urls(params).items()}
    token = json.dumps(engine_token.require())
    return write_secret("prometheus.yml", path, **addresses, rules=str(CONFIGURATION), engine_token=token)


def write_configuration(webhook: str, path: Path) -> Path:
    """The repository's configuration with the webhook's address, a secret."""
    return write_secret("alertmanager.yml", path, webhook=json.dumps(webhook))


def write_secret(template: str, path: Path, **values: str) -> Path:
    """Fill in a configuration of the repository; its owner alone can read it, from its first byte on."""
    path.touch(0o600)
    path.chmod(0o600)  # one that was there before
    path.write_text(Template((CONFIGURATION / template).read_text()).substitute(values))
    return path
