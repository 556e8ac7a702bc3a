"""The demo: the whole loop once, on real data, with a simulated audience, ending in a short table.

A script to read from top to bottom; each step is a flow of its own that the schedules run too.
"""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from components.config import Params
from flows import stack
from flows.audience import run_audience
from flows.environment import ROOT, STATE, service_urls
from flows.monitor import monitor
from flows.pipeline import pipeline
from flows.release import release

STEPS = ("start the servers", "pipeline", "release", "simulated audience", "monitor")
console = Console()


def demo(params: Params) -> None:
    """Run every step; stops the programs it started, whatever happens."""
    started = time.monotonic()
    already = stack.running()
    try:
        announce(0, started)
        stack.start(params, ["prefect", "mlflow"])
        announce(1, started)
        pipeline()
        announce(2, started)
        release()
        announce(3, started)
        traffic = run_audience(params)
        announce(4, started)
        report = monitor(window_minutes=int((time.monotonic() - started) / 60) + 1)
        console.print(summary(traffic, json.loads((ROOT / report).with_suffix(".json").read_text())))
        console.print(where_to_look(params, report), soft_wrap=True)
        console.print(f"whole loop: {(time.monotonic() - started) / 60:.1f} minutes")
    finally:
        if not already:
            stack.stop()


def announce(step: int, started: float) -> None:
    """Say which step begins, how long the demo has run, and what comes next."""
    following = STEPS[step + 1] if step + 1 < len(STEPS) else "the summary"
    elapsed = time.strftime("%M:%S", time.gmtime(time.monotonic() - started))
    console.rule(f"[bold]{step + 1}/{len(STEPS)} {STEPS[step]}[/] · {elapsed} elapsed · next: {following}")


def metrics(line: str, stage: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "metrics" / line / f"{stage}.json").read_text())
    return document


def summary(traffic: dict[str, Any], report: dict[str, Any]) -> Table:
    """What was trained, how good it was before and after, what export gained, and the experiment's verdict."""
    table = Table("what", "result", title="Atelier demo", title_justify="left")
    return table


def where_to_look(params: Params, report: str) -> str:
    """The paths and commands a user goes on with."""
    urls = service_urls(params)
    return "\n".join(
        [
            f"ops report          {report}",
            f"generated pictures  {ROOT / 'artifacts/image/sheet.png'}",
            f"pictures served     {STATE / 'demo'}",
            "open each UI        make up, then:",
            f"  gateway           {urls['gateway']}/docs",
            f"  MLflow            {urls['mlflow']}",
            f"  Prefect           {urls['prefect']}",
        ]
    )
