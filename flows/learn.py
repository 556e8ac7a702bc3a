"""Learning from users: moved prompts go to annotators, reactions and labels become a data version, that a model.

`ask_annotators` follows every monitoring report that says "act" about what users ask for; `learn` runs on schedule, and
does nothing where too little is new. What it makes passes the same gates as any other model, and starts on trial.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow, task

from components.annotation import comparisons, phrase_queue
from components.artifact import read_manifest
from components.config import Params, load
from components.data import feedback
from components.events import window
from components.events.database import DatabaseError, opened
from components.learning import data_version
from components.learning.harvest import for_annotators, harvest, read_judged_answers
from components.paths import FEEDBACK, TEXT_SPLIT
from components.stage import StageError
from flows.driver import logger, plan
from flows.environment import ROOT, STATE
from flows.pipeline import pipeline
from flows.release import release
from monitoring.drift import Severity
from monitoring.simulated import audience_folder, read_runs

FOLDER = ROOT / FEEDBACK / "text"
SPLIT = ROOT / TEXT_SPLIT
PROMPTS = "text prompts"  # the drift's name in a report: the line and what of it was compared
DAY = 86_400.0


@dataclass(frozen=True)
class Learned:
    """A run's message, and the deployment that it released, if any."""

    message: str
    deployment: str | None = None


def prompts_drift(report: Path) -> dict[str, Any]:
    """What a report says of the drift of the text line's prompts; empty where it says nothing."""
    summary = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    return next((drift for drift in summary["drift"] if drift["name"] == PROMPTS), {})


def prompts_moved(report: Path) -> bool:
    """Whether what text users ask for has moved for long enough to act."""
    return prompts_drift(report).get("severity") == Severity.ACT


def of_simulated_users(params: Params, since: float, until: float) -> set[str]:
    """Ids of requests that count for nothing, as no person sent them."""
    if params.learning.simulated:
        return set()
    runs = read_runs(audience_folder(params.monitor.report), since, until)
    return {identifier for run in runs for identifier in (*run.request_ids, *run.failed_ids)}


@task(task_run_name="ask-annotators", persist_result=False)
def ask_annotators(since: float, until: float) -> int:
    """Queue the window's phrases that the training data covers least; returns how many are new to the queue.

    No more wait at a time than `learning.label_batch`, and no phrase of a held-out user does.
    """
    from components.data.pairs import read_pairs
    from components.models.text_encoder import TextEncoder

    params = load()
    sample = window.sample(params.events.url, since, until, line="text", rows=params.monitor.sample_rows)
    rows = for_annotators(sample, params.learning, of_simulated_users(params, since, until))
    offered = [phrase_queue.phrase_task(row["prompt"], row["output"], "unlike the training data") for row in rows]
    with opened(params.events.url) as engine:
        queued = phrase_queue.all_tasks(engine)
        room = params.learning.label_batch - len(phrase_queue.open_tasks(engine))
        fresh = phrase_queue.new_tasks(offered, queued)
        if not fresh or room <= 0:
            return 0
        encoder = TextEncoder()
        covered = [pair.phrase for pair in read_pairs(SPLIT / "train.parquet")] + [task.phrase for task in queued]
        chosen = phrase_queue.choose(fresh, covered, room, lambda texts: encoder.embed(texts).numpy())
        added = phrase_queue.enqueue(engine, chosen, time.time())
    logger().info("%d phrases wait for an annotator: `atelier label phrases`", added)
    return added


@task(task_run_name="harvest", persist_result=False)
def write_version(params: Params) -> dict[str, Any]:
    """Make the data version of what people taught until now, where enough of it is new; returns the counts."""
    until = time.time()
    since = until - DAY * params.learning.window_days
    answers = read_judged_answers(params.events.url, since, until)
    result = harvest(answers, params.learning, of_simulated_users(params, since, until))
    with opened(params.events.url) as engine:
        preferences = comparisons.settled(engine, params.annotation)
        pairs = data_version.pairs_of(result, phrase_queue.read_labels(engine), preferences)
    counts: dict[str, Any] = {
        **result.counts(),
        "preferences": len(preferences),
        "pairs": len(pairs),
        "changed": data_version.changed_pairs(pairs, FOLDER),
        "reasons": result.reasons(),
    }
    logger().info("learned from %s", counts)
    if counts["changed"] >= params.learning.min_new:
        data_version.write_version(pairs, result, params.learning, FOLDER, preferences)
    return counts


def trained_on() -> str | None:
    """The version of learned material that the present split was made from."""
    return read_manifest(SPLIT).parents.get("feedback")


@flow(name="learn", flow_run_name="learn", persist_result=False)
def learn() -> Learned:
    """Retrain the text line where enough has changed, and put the model on trial beside the champion.

    A version that a killed run or a refused model left untrained is trained by the next run.
    """
    try:
        with FileLock(STATE / "learn.lock", timeout=0):
            return _learn(load())
    except Timeout as error:
        raise StageError(
            "another training, of `atelier learn run` or `atelier learn adapt`, is at work; wait for it"
        ) from error


def _learn(params: Params) -> Learned:
    if candidate := plan("text", params).candidate:
        return Learned(f"{candidate} is on trial: learning goes on when that has ended")
    counts = write_version(params)
    if feedback.digest(FOLDER) == trained_on():
        return Learned(
            f"{counts['changed']} pairs have changed, {params.learning.min_new} are needed: nothing to train"
        )
    try:
        pipeline(["package@text", "evaluate_feedback"])
        deployment = release(["text"], canary=True)["text"]
    except DatabaseError:
        raise
    except StageError as error:
        return Learned(f"the model made from {counts['pairs']} pairs is not released: {error}")
    return Learned(f"learned from {counts['pairs']} pairs, {counts['changed']} of them changed; released", deployment)
