"""The pipeline flow: walks the DVC graph, each stage one Prefect task with its log, duration and 'ran' or 'cached'.

DVC alone decides what is stale; Prefect shows, schedules and reports. Two stages that do not need each other run side
by side, each on half of the cores: most import, read and write more than they compute. A stage with `meta: {alone:
true}` in dvc.yaml, as trainings have, runs alone on all cores; what these need comes before them, all else after.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter

import networkx as nx
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture, as_completed, wait
from prefect.task_runners import ThreadPoolTaskRunner

from components.config import load
from components.endpoint_keys import KEY
from components.stage import StageError
from flows.environment import ROOT

TAIL = 8
_processes: set[subprocess.Popen[str]] = set()  # of the stages that run


class StageFailedError(StageError):
    """A stage ended with a non-zero exit code; the message carries the stage's own last words."""


@dataclass(frozen=True)
class Plan:
    """The stages to bring up to date; of those that could start, the first in order shall."""

    needs: dict[str, set[str]]  # of each
    alone: set[str]  # those that run alone
    leading: set[str]  # what these need


def plan(targets: list[str], skipped: str | None = None) -> Plan:
    """The stages that lead to `targets`, all where there are none, without `skipped` and what needs that.

    Raises `StageError` where a target is unknown or among those.
    """
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        graph = nx.relabel_nodes(repo.index.graph, {stage: stage.name for stage in repo.index.graph})
        alone = {stage.name for stage in repo.index.stages if (stage.meta or {}).get("alone")}
    # DVC's edges point from a stage to what it needs.
    out = {skipped, *nx.ancestors(graph, skipped)} if skipped else set()
    if refused := sorted(out.intersection(targets)):
        raise StageError(f"{', '.join(refused)}: base.text.endpoint names an API, of which no model is made here")
    graph.remove_nodes_from(out)
    unknown = sorted(set(targets) - set(graph))
    if unknown:
        raise StageError(f"no such stage: {', '.join(unknown)}; dvc.yaml has {', '.join(sorted(graph))}")
    wanted = set(targets).union(*(nx.descendants(graph, t) for t in targets)) if targets else set(graph)
    most_needed_first = sorted(
        (stage for stage in graph if stage in wanted), key=lambda s: -len(nx.ancestors(graph, s))
    )
    needs = {stage: set(graph.successors(stage)) for stage in most_needed_first}
    return Plan(needs, alone & wanted, set().union(*(nx.descendants(graph, stage) for stage in alone & wanted)))


def halves() -> list[set[int]]:
    """The cores in two halves; all in one where there is one core, or the system cannot bind a process to some."""
    if not hasattr(os, "sched_setaffinity"):
        return [set(range(os.cpu_count() or 1))]
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    return [set(cores[:middle]), set(cores[middle:])] if middle else [set(cores)]


def reproduce(stage: str, log: Callable[[str], None], cores: set[int]) -> str:
    """Bring one stage up to date in a process of its own, on `cores`, its output going to `log`: "ran" or "cached".

    Raises `StageFailedError` with its last lines. An interrupt reaches the stage as `SIGINT`, and is waited for.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop(KEY, None)  # no stage asks an API
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        assert process.stdout is not None
        if hasattr(os, "sched_setaffinity"):
            with suppress(OSError):  # a sandbox forbids it
                os.sched_setaffinity(process.pid, cores)
        _processes.add(process)
        try:
            for line in process.stdout:
                if line := line.rstrip():
                    lines.append(line)
                    log(line)
        except BaseException:
            interrupt(process)
            process.wait()
            raise
        finally:
            _processes.discard(process)
    if process.returncode != 0:
        raise StageFailedError(f"stage {stage} ended with exit code {process.returncode}:\n" + "\n".join(lines[-TAIL:]))
    return "ran" if any(line.startswith("Running stage") for line in lines) else "cached"


def interrupt(process: subprocess.Popen[str]) -> None:
    """Interrupt a stage. DVC itself takes no notice while the stage's command runs: the whole group is told."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


@task(task_run_name="{stage}", persist_result=False)
def run_stage(stage: str, cores: set[int], position: int, total: int) -> str:
    """One stage of the graph as one task."""
    logger = get_run_logger()
    started = time.monotonic()
    outcome = reproduce(stage, logger.info, cores)
    logger.info("[%d/%d] %s %s in %.1f s", position, total, stage, outcome, time.monotonic() - started)
    return outcome


def startable(ready: list[str], stages: Plan, ended: Collection[str], running: bool) -> str | None:
    """The stage to start now: what leads to stages that run alone, then these where nothing runs, then the rest."""
    alone = stages.alone.difference(ended)
    if not alone:
        return next(iter(ready), None)
    needed = [stage for stage in ready if stage in stages.leading and stage not in alone]
    return next(iter(needed), None if running else next((stage for stage in ready if stage in alone), None))


@flow(name="pipeline", flow_run_name="pipeline", persist_result=False, task_runner=ThreadPoolTaskRunner(max_workers=2))
def pipeline(targets: list[str] | None = None) -> dict[str, str]:
    """Bring `targets` (every stage by default) up to date; a re-run continues at the stage that failed.

    Where an API serves the text line, nothing that needs a base model of it is made.
    Where a stage fails, what runs beside it ends first; an interrupt ends both.
    """
    stages = plan(targets or [], "base_text" if load().base.text.endpoint else None)
    outcomes: dict[str, str] = {}
    running: dict[PrefectFuture[str], tuple[str, list[set[int]]]] = {}
    free, ready, sorter = halves(), list[str](), TopologicalSorter(stages.needs)
    sorter.prepare()
    try:
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()], key=list(stages.needs).index)
            while free and (stage := startable(ready, stages, outcomes, bool(running))):
                ready.remove(stage)
                taken, free = (free, []) if stage in stages.alone else (free[:1], free[1:])
                position = len(outcomes) + len(running) + 1
                future = run_stage.submit(stage, set[int]().union(*taken), position, len(stages.needs))
                running[future] = stage, taken
            ended = next(as_completed(list(running)))
            stage, taken = running.pop(ended)
            outcomes[stage] = ended.result()
            free += taken
            sorter.done(stage)
    except StageFailedError:
        wait(list(running))
        raise
    except BaseException:
        for process in list(_processes):
            interrupt(process)
        wait(list(running))
        raise
    create_table_artifact(key="stages", table=[{"stage": s, "outcome": o} for s, o in outcomes.items()])
    return outcomes
