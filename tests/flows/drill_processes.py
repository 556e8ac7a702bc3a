"""Faults of real Bentos under a real supervisor: killed, hung, and a supervisor that is killed itself."""

from __future__ import annotations

import signal
from json import dumps
from pathlib import Path

import httpx
import psutil

from flows.processes import MARK
from flows.watch import SILENT, STILL
from tests.flows.supervised import listeners, project, restarted
from tests.infra.prometheus.test_delivery import eventually

SHORT = {"worker": 50.0, "housekeeping": 80.0}


def test_29_bentos_that_are_killed_or_hang_come_back(tiny_export: Path, tmp_path: Path) -> None:
    with project(tmp_path) as own:
        own.start("text", ATELIER_TEXT_ARTIFACT=str(tiny_export))
        own.start("gateway")
        for program in ("text", "gateway"):
            serving = own.listener(program)
            serving.kill()
            serving = restarted(own, program, serving)
            serving.send_signal(signal.SIGTERM)  # as the runbooks say
            serving = restarted(own, program, serving)
            watched = f"{program} (process {serving.pid}) answers"
            eventually(lambda watched=watched: watched in own.watch_log())  # type: ignore[misc]
            serving.send_signal(signal.SIGSTOP)
            restarted(own, program, serving, seconds=SILENT * 10 + 60)
        own.kill_supervisor()
        eventually(lambda: not listeners(own.ports["text"]) + listeners(own.ports["gateway"]), 20)
        own.start("text", ATELIER_TEXT_ARTIFACT=str(tiny_export))
        own.stop("text")
        assert listeners(own.ports["text"]) == []


def test_29_30_the_servers_of_flows_come_back_and_scheduled_flows_run_with_the_password(tmp_path: Path) -> None:
    with project(tmp_path) as own:
        patience = tmp_path / "flows/watch.py"  # less of it: a drill is short
        patience.write_text(patience.read_text().replace(dumps(STILL), dumps(SHORT)))
        own.start("mlflow")
        own.start("prefect")
        own.python("stack.control('start', 'worker', 'housekeeping')")
        password = (tmp_path / ".atelier/ui-password").read_text()
        api = httpx.Client(
            base_url=f"http://127.0.0.1:{own.ports['prefect']}/api", auth=("atelier", password), timeout=30
        )
        eventually(lambda: completed(api) == {"canary"}, 240)
        assert (tmp_path / ".atelier/reports/ops.html").exists()
        for program in ("mlflow", "prefect"):
            serving = own.listener(program)
            next(one for one in (serving, *serving.parents()) if one.parent() == own.supervisor).kill()
            restarted(own, program, serving)
        for program in ("worker", "housekeeping"):
            told = f"{program} (process {own.pid(program)}) answers"
            eventually(lambda told=told: told in own.watch_log(), 240)  # type: ignore[misc]
            hung = psutil.Process(own.pid(program))
            hung.send_signal(signal.SIGSTOP)
            eventually(lambda hung=hung: not hung.is_running(), SHORT[program] + SILENT * 10 + 60)  # type: ignore[misc]
            eventually(lambda program=program, hung=hung: own.pid(program) not in (0, hung.pid), 60)  # type: ignore[misc]
        own.python("stack.stop()")
        assert of_the_stack(tmp_path) == []


def completed(api: httpx.Client) -> set[str]:
    """The names of the flows of which a run of the stack's own has ended well; none while nobody answers."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    runs = api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
    return {run["name"] for run in runs if run["name"] == "canary"}


def of_the_stack(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            found += [process] if str(folder) in process.environ().get(MARK, "") else []
        except psutil.Error:
            continue
    return found
