"""The monitoring flow: one report of the last window, its summary as a Prefect artifact, and its advice in the log."""

from __future__ import annotations

import json
import time

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from components.config import load
from components.events.database import DatabaseError
from components.stage import StageError
from flows.learn import ask_annotators, prompts_moved
from flows.ops import ops
from monitoring.report import write_report


@flow(name="monitor", flow_run_name="monitor", persist_result=False)
def monitor(window_minutes: int | None = None) -> str:
    """Write the ops report of the last window (minutes; `monitor.window_minutes` by default); returns its path.

    Where users' prompts have moved for long enough, the ones that training covers least go to annotators.
    """
    logger, until = get_run_logger(), time.time()
    page = write_report(load(), until, window_minutes)
    ops(load())
    summary = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    for advice in summary["advice"]:
        logger.info("%s · %s", advice["urgency"], advice["words"])
    results = [experiment["analysis"] for experiment in summary["experiments"]]
    verdict = ". ".join(f"{result['experiment']}: **{result['verdict']}**" for result in results) or "No experiment"
    create_markdown_artifact(
        key="ops-report",
        markdown=f"{summary['requests']} requests ({summary['simulated']} simulated). "
        f"{verdict}. Drift: **{summary['severity']}**. Page: `{page}`; "
        f"all runs: `{page.parent.parent / 'index.html'}`",
    )
    if prompts_moved(page):
        since = until - 60 * (window_minutes or load().monitor.window_minutes)
        try:
            ask_annotators(since, until)
        except DatabaseError:
            raise
        except StageError as error:  # the training data may be on another machine: the report is what counts here
            logger.warning("nobody was asked for labels: %s", error)
    return str(page)
