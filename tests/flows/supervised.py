"""A copy of the project with ports and state of its own, whose stack a real supervisor runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from components.config.document import read_yaml, write_yaml
from flows.stack import LIVE_PATHS
from tests.bentos.processes import ROOT, free_port
from tests.components.events.examples import DEPLOYMENT
from tests.infra.prometheus.test_delivery import eventually

USED = ("bentos", "components", "flows", "infra", "monitoring")
PORTS = {
    "serving": ("gateway_port", "text_port", "text_b_port", "image_port", "image_b_port"),
    "stack": ("prefect_port", "mlflow_port", "prometheus_port", "alertmanager_port"),
}


@dataclass(frozen=True)
class Project:
    """A copy of the project; programs are controlled by the code that is in it."""

    folder: Path
    ports: dict[str, int]

    def python(self, code: str, **environment: str) -> str:
        """What Python code prints that runs as the project's own commands do."""
        given = {name: value for name, value in os.environ.items() if not name.startswith(("ATELIER_", "PREFECT_"))}
        own = {"PYTHONPATH": str(self.folder), "BENTOML_HOME": str(self.folder / ".atelier/bentoml")} | environment
        begin = "from flows import environment, stack\nenvironment.apply()\n"
        begin += "environment.provide_secrets()\nenvironment.accept_keys()\n"
        begin += "from components.config import load\nparams = load()\n"
        command = [sys.executable, "-c", begin + code]
        ended = subprocess.run(
            command, cwd=self.folder, env=given | own, capture_output=True, text=True, check=False, timeout=240
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def start(self, program: str, **environment: str) -> None:
        """Start a program, alone if need be: it has to answer, not to be ready, for which others must run too."""
        self.python(f"stack.start(params, [])\nstack.control('start', {program!r})", **environment)
        eventually(lambda: self.answers(program), 60)

    def stop(self, program: str) -> None:
        self.python(f"stack.control('stop', {program!r})")

    @property
    def supervisor(self) -> psutil.Process:
        return psutil.Process(int((self.folder / ".atelier/supervisord.pid").read_text()))

    def kill_supervisor(self) -> None:
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            self.supervisor.kill()

    def watch_log(self) -> str:
        return (self.folder / ".atelier/logs/watch.log").read_text()

    def pid(self, program: str) -> int:
        """Of a program's own process, 0 where it does not run."""
        return int(self.python(f"print(stack.control('pid', {program!r}))"))

    def answers(self, program: str) -> bool:
        try:
            url = f"http://127.0.0.1:{self.ports[program]}{LIVE_PATHS[program]}"
            return httpx.get(url, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def listener(self, program: str) -> psutil.Process:
        """The process that listens on a program's port."""
        return listeners(self.ports[program])[0]


def listeners(port: int) -> list[psutil.Process]:
    found = psutil.net_connections("tcp")
    return [psutil.Process(one.pid) for one in found if one.status == "LISTEN" and one.laddr.port == port and one.pid]


def restarted(project: Project, program: str, before: psutil.Process, seconds: float = 60) -> psutil.Process:
    """The new process of a program, a child of supervisor's, once it answers; the one before must be gone."""
    eventually(lambda: not before.is_running() and project.answers(program), seconds)
    (listener,) = listeners(project.ports[program])
    assert listener.parent() == project.supervisor
    return listener


@contextmanager
def project(folder: Path) -> Iterator[Project]:
    """The gateway's and a text Bento, of this tree, are deployed in it; all that was started ends with the block."""
    for name in USED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    document = read_yaml(ROOT / "params.yaml")
    shutil.copy(ROOT / "prefect.yaml", folder)
    ports = {}
    for section, names in PORTS.items():
        own_ports = {name: free_port() for name in names}
        document[section] |= own_ports
        ports |= own_ports
    write_yaml(folder / "params.yaml", document)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config.local").write_text("[core]\nno_scm = true\n")
    (folder / ".atelier/deployed").mkdir(parents=True)
    (folder / ".atelier/deployed/gateway.txt").write_text("bentos.gateway.service:GatewayBento")
    text = DEPLOYMENT.model_copy(update={"bento": "bentos.text.service:TextBento"})
    (folder / ".atelier/deployed/text.json").write_text(text.model_dump_json())
    own = Project(folder, {name.removesuffix("_port"): port for name, port in ports.items()})
    try:
        yield own
    finally:
        own.kill_supervisor()
        eventually(lambda: not any(map(listeners, ports.values())), 20)  # nothing outlives its supervisor
