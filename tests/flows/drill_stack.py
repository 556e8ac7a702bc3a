"""The stack's servers as the user's command starts them, in a company's network, with many clients, and idle."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from components.config.document import read_yaml, write_yaml
from components.loopback import OWN_ADDRESSES
from flows import environment
from tests.bentos.processes import free_port
from tests.components.test_loopback import PROXIES, Server, serving
from tests.infra.prometheus.test_delivery import eventually

ROOT = Path(__file__).resolve().parents[2]
CODE = ("bentos", "components", "flows", "infra", "monitoring", "tests")
PROGRAMS = ["prefect", "mlflow", "worker", "housekeeping"]
START = f"""
from components.loopback import OWN_ADDRESSES
from flows import environment
environment.apply()
from components.config import load
from flows import stack
stack.use_server(load())
stack.start(load(), {PROGRAMS})
"""
CLIENTS, RUNS = 6, 15


@dataclass
class Stack:
    folder: Path
    prefect: str
    proxy: Server

    @property
    def login(self) -> httpx.BasicAuth:
        password = (self.folder / ".atelier" / environment.UI_PASSWORD).read_text()
        return httpx.BasicAuth(environment.UI_USER, password)

    def run(self, *arguments: str) -> str:
        mine = (*environment.SETTINGS, *environment.PREFECT_AUTH)
        own = {name: value for name, value in os.environ.items() if name not in mine}
        proxies = dict.fromkeys(PROXIES, self.proxy.url) | {"no_proxy": "", "NO_PROXY": ""}
        variables = own | proxies | {"PYTHONPATH": str(self.folder)}
        command = [sys.executable, *arguments]
        ended = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The project's code in a folder of its own, its servers on free ports, with a proxy that refuses everything."""
    folder = tmp_path_factory.mktemp("stack")
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "base"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    document = read_yaml(ROOT / "params.yaml")
    for section, key in (parameter.split(".") for parameter in environment.PORTS.values()):
        document[section][key] = f"http://127.0.0.1:{free_port()}" if key == "url" else free_port()
    write_yaml(folder / "params.yaml", document)
    with serving(403) as proxy:
        found = Stack(folder, f"http://127.0.0.1:{document['stack']['prefect_port']}/api", proxy)
        try:
            found.run("-c", START)
            yield found
        finally:
            found.run("-m", "flows.cli", "down")


def test_36_with_a_proxy_the_stack_starts_and_nothing_on_this_machine_goes_through_it(stack: Stack) -> None:
    def steps() -> bool:
        wanted = {"flows": {"name": {"any_": ["canary"]}}}
        runs = httpx.post(f"{stack.prefect}/flow_runs/filter", json=wanted, auth=stack.login).json()
        return any(run["state"]["type"] == "COMPLETED" for run in runs)

    eventually(
        lambda: httpx.post(f"{stack.prefect}/deployments/filter", json={}, auth=stack.login).json(), 90
    )  # by the worker
    eventually(steps, 120)  # by housekeeping
    # Prefect looks for the types of workers that there are on the web; that is what a proxy is for.
    assert not [asked for asked in stack.proxy.requests if any(address in asked for address in OWN_ADDRESSES)]


async def test_37_six_clients_at_once_are_all_answered_and_the_database_is_not_locked(stack: Stack) -> None:
    answers: Counter[int] = Counter()

    async with httpx.AsyncClient(base_url=stack.prefect, timeout=70, auth=stack.login) as client:
        flow = (await client.post("/flows/", json={"name": "many"})).json()["id"]

        async def runs() -> None:
            for _ in range(RUNS):
                made = await client.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "PENDING"}})
                answers[made.status_code] += 1
                for state in ("RUNNING", "COMPLETED"):
                    body = {"state": {"type": state}, "force": True}
                    moved = await client.post(f"/flow_runs/{made.json()['id']}/set_state", json=body)
                    answers[moved.status_code] += 1

        async with asyncio.timeout(60):
            await asyncio.gather(*(runs() for _ in range(CLIENTS)))
    assert answers == {201: 3 * CLIENTS * RUNS}
    assert "database is locked" not in (stack.folder / ".atelier/logs/prefect.log").read_text()


def test_39_mlflow_starts_no_job_consumers_and_the_bench_measures_each_program(stack: Stack) -> None:
    said = stack.run("-m", "tests.bench.idle", "--seconds", "5")
    assert all(program in said for program in PROGRAMS)
    idle = json.loads((stack.folder / "metrics/online/idle.json").read_text())
    assert idle["programs"]["mlflow"]["processes"] <= 3
    assert idle["housekeeping"]["memory"] < 1.5e9
