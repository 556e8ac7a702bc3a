"""Learning from users: moved prompts go to annotators, reactions and labels become a data version, that a model.

`ask_annotators` follows every monitoring report that says "act" about what users ask for; `learn` runs on schedule, and
does nothing where too little is new. What it makes passes the same gates as any other model, and starts on trial.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow, task

from components.annotation.preference import settled
from components.artifact import read_manifest
from components.config import Params, load
from components.data import feedback
from components.data.filters import normalise
from components.events import window
from components.events.database import opened
from components.learning import labels, version
from components.learning.choose import least_covered
from components.learning.harvest import harvest, is_held_out
from components.learning.read import judged
from components.paths import FEEDBACK, TEXT_SPLIT
from components.stage import StageError
from flows.driver import logger, plan
from flows.environment import ROOT, STATE
from flows.pipeline import pipeline
from flows.release import release
from monitoring.simulated import audience_folder, read_runs

FOLDER = ROOT / FEEDBACK / "text"
SPLIT = ROOT / TEXT_SPLIT
ALIKE = 0.9  # MiniLM cosine from which an annotator has answered the phrase already, in other words
OF_ONE_USER = 5  # phrases for annotators
DAY = 86_400.0


@dataclass(frozen=True)
class Learned:
    """What a run did, in words, and the deployment that it released, if any."""

    words: str
    deployment: str | None = None


def prompts_moved(report: Path) -> bool:
    """Whether a report says that what text users ask for has moved for long enough to act."""
    summary = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    return any(drift["name"] == "text prompts" and drift["severity"] == "act" for drift in summary["drift"])


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
    rows = askable(sample, params, of_simulated_users(params, since, until))
    with opened(params.events.url) as engine:
        known, room = labels.known(engine), params.learning.label_batch - len(labels.unanswered(engine))
        tasks = [labels.task_of(row["prompt"], row["output"], "unlike the training data") for row in rows]
        fresh = [
            one
            for one in {one.task: one for one in reversed(tasks)}.values()
            if one.task not in known and normalise(one.phrase)
        ]
        if not fresh or room <= 0:
            return 0
        encoder = TextEncoder()
        covered = [pair.phrase for pair in read_pairs(SPLIT / "train.parquet")] + [one.phrase for one in known.values()]
        phrases_BD, covered_RD = (encoder.embed(texts).numpy() for texts in ([t.phrase for t in fresh], covered))
        chosen = least_covered(phrases_BD, covered_RD, room, ALIKE)
        added = labels.enqueue(engine, [fresh[position] for position in chosen], time.time())
    logger().info("%d phrases wait for an annotator: `atelier label phrases`", added)
    return added


def askable(rows: Sequence[dict[str, Any]], params: Params, simulated: set[str]) -> list[dict[str, Any]]:
    """Answered requests of one message, a few of each user; none of a held-out one or of a simulated audience."""
    counted: Counter[str] = Counter()
    kept = []
    for row in rows:
        counted[row["user_key"]] += 1
        usable = row["outcome"] == "ok" and row["messages"] == 1 and row["request_id"] not in simulated
        if usable and counted[row["user_key"]] <= OF_ONE_USER and not is_held_out(row["user_key"], params.learning):
            kept.append(row)
    return kept


@task(task_run_name="harvest", persist_result=False)
def write_version(params: Params) -> dict[str, Any]:
    """Make the data version of what people taught until now, where enough of it is new; returns the counts."""
    until = time.time()
    since = until - DAY * params.learning.window_days
    answers = judged(params.events.url, since, until)
    found = harvest(answers, params.learning, of_simulated_users(params, since, until))
    with opened(params.events.url) as engine:
        preferences = settled(engine, params.annotation)
        pairs = version.pairs_of(found, labels.answered(engine), preferences)
    # What is taken back, or found to be a program's, changes the version as much as what is new.
    changed = {row["id"] for row in pairs} ^ feedback.pair_ids(FOLDER)
    told = {
        **found.counts(),
        "preferences": len(preferences),
        "pairs": len(pairs),
        "changed": len(changed),
        "reasons": found.reasons(),
    }
    logger().info("learned from %s", told)
    if len(changed) >= params.learning.min_new:
        version.write_version(pairs, found, params.learning, FOLDER, preferences)
    return told


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
    told = write_version(params)
    if feedback.digest(FOLDER) == trained_on():
        return Learned(f"{told['changed']} pairs have changed, {params.learning.min_new} are needed: nothing to train")
    try:
        pipeline(["package@text", "evaluate_feedback"])
        deployment = release(["text"], canary=True)["text"]
    except StageError as error:
        return Learned(f"the model made from {told['pairs']} pairs is not released: {error}")
    return Learned(f"learned from {told['pairs']} pairs, {told['changed']} of them changed; released", deployment)
