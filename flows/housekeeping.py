"""What is due each minute, in one process that stays: `python -m flows.housekeeping`, a program of the stack.

A process for each step would take seconds of CPU for its imports alone. Each step is a flow run all the same while
Prefect's server answers, so that it is on record and told of where it fails; and it is taken without that server, too.
What takes long stays a process of its own under Prefect's worker.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from prefect import Flow
from prefect.deployments import run_deployment

from components.annotation import tier_store
from components.annotation.label_studio import title
from components.config import load
from components.events.database import opened
from flows.canary import canary
from flows.environment import ROOT
from flows.stack import answers
from flows.watch import HOUSEKEEPING

MINUTE = 60.0
RECONCILE = "annotate-reconcile/every-five-minutes"
RECONCILE_MINUTES = 5
CODE = ("bentos", "components", "flows", "monitoring")

logger = logging.getLogger(__name__)


def main() -> None:
    """Take each minute's steps until the code on disk is another; then become that."""
    started = newest_code()
    while newest_code() == started:
        time.sleep(MINUTE - time.time() % MINUTE)
        load.cache_clear()  # a fresh process would read params.yaml
        minute(int(time.time() // MINUTE))
        HOUSEKEEPING.touch()
    os.execv(sys.executable, [sys.executable, "-m", "flows.housekeeping"])  # noqa: S606 - this program again


def minute(number: int) -> None:
    """The steps of a minute (counted from the epoch); one that fails waits for the next, and keeps no other one."""
    attempt(lambda: recorded(canary))
    if number % RECONCILE_MINUTES == 0:
        attempt(reconcile)


def attempt(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:
        logger.exception("a step failed; the next one is taken when it is due")


def recorded(flow: Flow[[], Any]) -> None:
    """Run a flow here: on Prefect's record where its server answers, else without."""
    (flow if answers("prefect", load()) else flow.fn)()


def reconcile() -> None:
    """Have the worker read what people have labelled, where somebody has been asked to label."""
    params = load()
    with opened(params.events.url) as engine:
        labelling = tier_store.tasks(engine, title(params.annotation))
    if labelling and answers("prefect", params):
        run_deployment(RECONCILE, timeout=0)


def newest_code() -> float:
    """When a file of the project's code was changed last, in seconds of the epoch."""
    return max(path.stat().st_mtime for folder in CODE for path in (ROOT / folder).rglob("*.py"))


if __name__ == "__main__":
    main()
