"""The tuning flow: a Hyperopt search in a process of its own, then its trials as nested MLflow runs."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

from prefect import flow, get_run_logger, task

from components.config import load
from components.paths import METRICS
from components.registry.searches import log_search
from components.stage import StageError
from components.tuning.trials import read_search
from flows.environment import ROOT


@task(persist_result=False)
def search(module: str) -> None:
    """Run a module's search; an interrupted one goes on where it stopped."""
    ended = subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=False)
    if ended.returncode != 0:
        raise StageError(f"the search ended with exit code {ended.returncode}; its last lines are above")


@flow(name="tune", flow_run_name="tune", persist_result=False)
def tune(what: Literal["training", "sampling"] = "training") -> str:
    """Search, then log parent and trials to MLflow; returns the parent's run id."""
    params = load()
    module, result = {
        "training": ("components.tuning.search", METRICS / params.tune.line / "tune.json"),
        "sampling": ("components.tuning.sampling", METRICS / "sampling/search.json"),
    }[what]
    search(module)
    run_id = log_search(read_search(ROOT / result), params.registry)
    get_run_logger().info("trials are nested runs of %s", run_id)
    return run_id
