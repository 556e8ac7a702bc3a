"""A flow that fails on a real Prefect server reaches a real Alertmanager, and through it a person, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from components import telemetry
from tests.bentos.processes import free_port, running
from tests.infra.prometheus.test_delivery import ROOT, alertmanager, eventually
from tests.infra.prometheus.webhook import webhook
from tests.prometheus_binaries import binaries as binaries

FLOW = """
import sys
from prefect import flow
from flows.automations import tell_of_failed_flows

@flow(name="nightly")
def nightly(number: int):
    raise RuntimeError('the "gate" says no')

for _ in range(2):  # the second changes nothing
    tell_of_failed_flows(sys.argv[1])
for number in range(2):
    nightly(number, return_state=True)
"""


def test_a_failed_flow_is_told_of_once_with_its_runbook(binaries: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    variables = telemetry.OFF | {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": f"{url}/api"}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        url.rpartition(":")[2],
    ]
    with (
        webhook() as told,
        alertmanager(binaries, tmp_path / "alertmanager", told) as manager,
        running(command, tmp_path, f"{url}/api/health", variables),
    ):
        subprocess.run([sys.executable, "-c", FLOW, manager], env=os.environ | variables, cwd=ROOT, check=True)
        (message,) = eventually(lambda: told.about("FlowFailed", "firing"), 60)
    (alert,) = message["alerts"]
    assert alert["labels"]["flow"] == "nightly"
    assert "nightly ended as Failed" in alert["annotations"]["summary"]
    assert 'the "gate" says no' in alert["annotations"]["summary"]
    assert (ROOT / alert["annotations"]["runbook"]).is_file()
    assert alert["generatorURL"].startswith(url)
