"""The schedules of `prefect.yaml` on a real Prefect server, which is started anew, and a real worker that runs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from components import telemetry
from components.config import load
from flows import serve
from flows.environment import ROOT
from flows.housekeeping import RECONCILE
from tests.bentos.processes import free_port, running
from tests.flows.test_logins import login
from tests.infra.prometheus.test_delivery import eventually

USED = ("bentos", "components", "flows", "monitoring", "params.yaml", "prefect.yaml")


Deployment = tuple[str, str]  # entry point and name


def planned(api: httpx.Client) -> dict[Deployment, list[dict[str, Any]]]:
    """The runs that the server has planned, by deployment, the next one first."""
    deployments = {one["id"]: (one["entrypoint"], one["name"]) for one in api.post("/deployments/filter").json()}
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    found: dict[Deployment, list[dict[str, Any]]] = {}
    for run in api.post("/flow_runs/filter", json=wanted).raise_for_status().json():
        found.setdefault(deployments[run["deployment_id"]], []).append(run)
    return found


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's code and parameters, with state of its own: deployments run where they were applied."""
    for name in USED:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".atelier").mkdir()
    (tmp_path / "worker").mkdir()
    monkeypatch.setattr(serve, "ROOT", tmp_path)
    monkeypatch.setattr(serve, "await_ready", lambda *_: None)  # it knows the stack's port only
    monkeypatch.setattr(serve, "obstacle", lambda _: "no Alertmanager here")
    return tmp_path


def test_all_schedules_are_planned_and_after_a_restart_the_worker_runs_what_is_due(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, health = free_port(), free_port()
    url = f"http://127.0.0.1:{port}/api"
    variables = telemetry.OFF | {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(workspace / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_WEBSERVER_PORT": str(health),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stack = load().stack.model_copy(update={"prefect_port": port})
    server = serve.PROGRAMS["prefect"](load().model_copy(update={"stack": stack}))
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    listed = {(one["entrypoint"], one["name"]) for one in document["deployments"] if one["schedules"]}

    with running(server, workspace, f"{url}/health", variables), httpx.Client(base_url=url, auth=login()) as api:
        worker = serve.worker(load())
        eventually(lambda: planned(api).keys() == listed, 60)

    with running(server, workspace, f"{url}/health", variables), httpx.Client(base_url=url, auth=login()) as api:
        labels = api.get(f"/deployments/name/{RECONCILE}").raise_for_status().json()["id"]
        run = api.post(f"/deployments/{labels}/create_flow_run", json={"state": {"type": "SCHEDULED"}}).json()
        due = f"/flow_runs/{run['id']}"
        labels_only = [*worker, "--work-queue", "labels", "--with-healthcheck"]
        # Prefect's worker does not always stop when it is told to just after a run; supervisor kills it then.
        with running(labels_only, workspace / "worker", f"http://127.0.0.1:{health}/health", variables, stops=False):
            eventually(lambda: api.get(due).json()["state"]["type"] == "COMPLETED", 90)
    assert (workspace / ".atelier" / "events.db").exists()
