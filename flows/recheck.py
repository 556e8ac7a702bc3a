"""The recheck flow: some answers of production, computed again by PyTorch on this machine, off the path of requests.

At the lowest priority, on one thread, a bounded number at a time: users wait for none of it. The gateway chooses them
and keeps what it takes (`serving.recheck`, `bentos/gateway/recheck.py`); what came of them is in the metrics, on the
ops page and in `atelier status`.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from prefect import flow
from sqlalchemy import Engine

from components.config import Line, Params, load
from components.errors import AtelierError
from components.evaluation.recheck import Kept, judge_texts, parsed
from components.events import rechecks
from components.events.database import opened
from components.events.read import get_deployment
from components.events.rechecks import Judgement, Row, Verdict
from components.events.schema import Deployment
from components.lines import LINES
from components.releases import store
from components.releases.machine import OPEN, State
from components.stage import StageError
from flows import references
from flows.driver import logger
from flows.rechecked import describe

MOST = 64  # answers of a line at a time: of the default models about a minute of one core
LONGEST = 1200.0  # seconds on a line, but for the answer begun last: both are done before the next hour's run
NICE = 19  # whatever else wants to run, runs first


@flow(name="recheck", flow_run_name="recheck", persist_result=False)
def recheck() -> list[str]:
    """Judge what waits; returns what came of it within a day, in a line of words for each line of the product."""
    os.nice(NICE)
    torch.set_num_threads(1)
    params = load()
    with opened(params.events.url) as engine:
        rechecks.give_up(engine, time.time())
        keep_references(engine, params)
        return [step(engine, line, params) for line in LINES]


def keep_references(engine: Engine, params: Params) -> None:
    """Of all that serves or may serve, a rollback to the champion before included, and of whose answers wait."""
    serving = (State.CHAMPION, *OPEN)
    releases = [release for line in LINES for release in store.current(engine, line)]
    names = {release.deployment for release in releases if release.state in serving}
    newest = {release.line: release.deployment for release in releases if release.state is State.RETIRED}
    names |= {*newest.values()}
    names |= {row["deployment"] for line in LINES for row in rechecks.waiting(engine, line, MOST)}
    records = (get_deployment(params.events.url, name) for name in sorted(names))
    references.keep([record for record in records if record])


def step(engine: Engine, line: Line, params: Params) -> str:
    """Judge a line's answers that have waited longest, as many as there is time for; the others wait on."""
    until = time.monotonic() + LONGEST
    for row, judgement in judged(rechecks.waiting(engine, line, MOST), params):
        rechecks.record(engine, row["request_id"], judgement, time.time())
        if judgement.verdict is Verdict.FAULT:
            logger().error("%s by %s: %s", row["request_id"], row["deployment"], judgement.why)
        if time.monotonic() > until:
            break
    return describe(line, rechecks.summary(engine, line, time.time(), store.gone(engine, line)))


def judged(rows: list[Row], params: Params) -> Iterator[tuple[Row, Judgement]]:
    """Answers with what came of each, model by model, each loaded once: first the one whose answer is the first."""
    models: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        models[row["deployment"], row["adapter"]].append(row)
    for (deployment, adapter), own in models.items():
        yield from judge(get_deployment(params.events.url, deployment), adapter, own, params)


def judge(
    deployment: Deployment | None, adapter: str, rows: list[Row], params: Params
) -> Iterator[tuple[Row, Judgement]]:
    """Answers of one deployment with one adapter; all unknown, and why, where what computes them is not here.

    None of them where there is no room for it now: they wait for the next time.
    """
    try:
        if deployment is None:
            raise StageError("the deployment is not recorded: the service ran without a release")
        judges = judge_of(deployment, adapter, params)
    except references.NotNowError as error:
        logger().warning("%s: they wait", error)
        return
    except AtelierError as error:
        yield from ((row, Judgement(Verdict.UNKNOWN, str(error))) for row in rows)
        return
    yield from zip(rows, judges([parsed(row) for row in rows]), strict=True)


def judge_of(deployment: Deployment, adapter: str, params: Params) -> Callable[[list[Kept]], Iterable[Judgement]]:
    """Who judges the answers of a deployment: pictures one by one, as each may take an hour."""
    if deployment.line == "text":
        return partial(judge_texts, references.text_reference(deployment, adapter))
    return partial(map, references.picture_judge(deployment, params.verify.image.min_image_psnr))
