"""`atelier up`: the stack runs and both lines are served, from whatever there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from components.config import Params
from components.lines import LINES
from components.paths import STATE
from flows import alerting, stack
from flows.driver import plan
from flows.environment import HOW_TO_SIGN_IN, service_urls
from flows.experiments import declare
from flows.ops import ops
from flows.pipeline import pipeline
from flows.release import gateway, release
from flows.stack import served, startable

SERVERS = ("prefect", "mlflow")


def up(params: Params) -> Iterator[str]:
    """Start the stack and leave it running, saying what came of it; what runs already is left alone.

    Makes and releases both models where no line has one; a line that was not released alone stays unserved.
    """
    yield from declare(params)
    stack.start(params, [*SERVERS])
    if not any(served(line, None) for line in LINES):
        pipeline()
        release()
    for line in LINES:
        if not served(line, None):
            how = f"`dvc repro package@{line}`, then `atelier release start {line}`"
            yield f"{line:12} not served: never released ({how})"
    slots, lost = startable({line: plan(line, params).champion for line in LINES})
    for slot, tag in lost.items():
        yield f"{slot:12} not started: the Bento store has lost {tag}; who serves the line is not affected"
    stack.start(params, [*SERVERS, *slots])
    gateway()
    obstacles = {program: reason for program in alerting.PACKAGES if (reason := alerting.obstacle(program))}
    watchers = [program for program in alerting.PACKAGES if program not in obstacles]
    programs = [*SERVERS, *slots, "gateway", "worker", "housekeeping", *watchers]
    stack.start(params, programs)
    yield from where_to_look(params, programs, obstacles)


def where_to_look(params: Params, programs: Sequence[str], obstacles: Mapping[str, str]) -> Iterator[str]:
    """The address of each program, or why it was not started; the ops page, the API key and how to sign in."""
    for program, url in service_urls(params).items():
        if program in obstacles:
            yield f"{program:12} not started: {obstacles[program]}"
        elif program in programs:
            yield f"{program:12} {url}"
    yield f"{'ops page':12} {ops(params)}"
    yield f"API key: the value of ATELIER_API_KEYS, or the file {STATE / 'api-key'}"
    yield f"sign in to Prefect and MLflow: {HOW_TO_SIGN_IN}"
