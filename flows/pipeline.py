"""The pipeline flow: walks the DVC graph, each stage one Prefect task with its log, duration and 'ran' or 'cached'.

DVC alone decides what is stale; Prefect shows, schedules and reports. One stage at a time, since DVC takes one writer
and a training stage uses every core.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Literal

import networkx as nx
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact

from components.stage import StageError
from flows.environment import ROOT

Outcome = Literal["ran", "cached"]
TAIL = 8


class StageFailedError(StageError):
    """A stage ended with a non-zero exit code; the message carries the stage's own last words."""


def stage_order(targets: list[str]) -> list[str]:
    """Names of the stages that lead to `targets` (all where empty), each after everything it depends on."""
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        graph = nx.relabel_nodes(repo.index.graph, {stage: stage.name for stage in repo.index.graph})
    unknown = sorted(set(targets) - set(graph))
    if unknown:
        raise ValueError(f"no such stage: {', '.join(unknown)}; dvc.yaml has {', '.join(sorted(graph))}")
    wanted = set(targets).union(*(nx.descendants(graph, t) for t in targets)) if targets else set(graph)
    # DVC's edges point from a stage to what it needs; ties fall in the order of dvc.yaml.
    position = {name: index for index, name in enumerate(graph)}
    order = nx.lexicographical_topological_sort(graph.subgraph(wanted).reverse(), key=position.__getitem__)
    return list(order)


def reproduce(stage: str, log: Callable[[str], None]) -> Outcome:
    """Bring one stage up to date in a process of its own, its output going to `log` line by line.

    Raises `StageFailedError` with the last lines of the stage. An interrupt
    reaches the stage as `SIGINT`, and is waited for.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line := line.rstrip():
                    lines.append(line)
                    log(line)
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
    if process.returncode != 0:
        raise StageFailedError(f"stage {stage} ended with exit code {process.returncode}:\n" + "\n".join(lines[-TAIL:]))
    return "ran" if any(line.startswith("Running stage") for line in lines) else "cached"


@task(task_run_name="{stage}", persist_result=False)
def run_stage(stage: str, position: int, total: int, following: str) -> Outcome:
    """One stage of the graph as one task."""
    logger = get_run_logger()
    started = time.monotonic()
    outcome = reproduce(stage, logger.info)
    elapsed = time.monotonic() - started
    logger.info("[%d/%d] %s %s in %.1f s; next: %s", position, total, stage, outcome, elapsed, following)
    return outcome


@flow(name="pipeline", flow_run_name="pipeline", persist_result=False)
def pipeline(targets: list[str] | None = None) -> dict[str, str]:
    """Bring `targets` (every stage by default) up to date, in order; a re-run continues at the stage that failed."""
    order = stage_order(targets or [])
    outcomes: dict[str, str] = {}
    for position, stage in enumerate(order, 1):
        following = order[position] if position < len(order) else "the end of the pipeline"
        outcomes[stage] = run_stage(stage, position, len(order), following)
    create_table_artifact(key="stages", table=[{"stage": s, "outcome": o} for s, o in outcomes.items()])
    return outcomes
