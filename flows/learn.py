"""Learning from users: moved prompts go to annotators, reactions and labels become a data version, that a model.

`ask_annotators` follows every monitoring report that says "act" about what users ask for; `learn` runs on schedule, and
does nothing where too little is new. What it makes passes the same gates as any other model, and starts on trial.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from prefect import flow, task

from components.config import Params, load
from components.events import window
from components.learning import labels, version
from components.learning.choose import least_covered
from components.learning.harvest import harvest
from components.learning.read import judged
from components.releases.database import opened
from components.stage import StageError
from flows.environment import ROOT
from flows.pipeline import pipeline
from flows.release import release
from flows.releases import logger
from monitoring.simulated import audience_folder, read_runs

FOLDER = ROOT / version.FEEDBACK / "text"
TRAINING = ROOT / "data/text/split/train.parquet"
ALIKE = 0.9  # MiniLM cosine from which an annotator has answered the phrase already, in other words
REACTIONS_SETTLE = 60.0  # seconds: a request this young may still get its reaction


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
    """Queue the window's phrases that the training data covers least; returns how many are new to the queue."""
    from components.data.pairs import read_pairs
    from components.models.text_encoder import TextEncoder

    params = load()
    sample = window.sample(params.events.url, since, until, line="text", rows=params.monitor.sample_rows)
    simulated = of_simulated_users(params, since, until)
    rows = [row for row in sample if row["outcome"] == "ok" and row["request_id"] not in simulated]
    encoder = TextEncoder()
    with opened(params.events.url) as engine:
        tasks = [labels.task_of(row["prompt"], row["output"], "unlike the training data") for row in rows]
        known = labels.known(engine)
        fresh = [one for one in dict.fromkeys(tasks) if one.task not in known and one.phrase]
        if not fresh:
            return 0
        covered = [pair.phrase for pair in read_pairs(TRAINING)] + [one.phrase for one in known.values()]
        phrases_BD, covered_RD = (encoder.embed(texts).numpy() for texts in ([t.phrase for t in fresh], covered))
        chosen = least_covered(phrases_BD, covered_RD, params.learning.label_batch, ALIKE)
        added = labels.enqueue(engine, [fresh[position] for position in chosen], time.time())
    logger().info("%d phrases wait for an annotator: `atelier labels`", added)
    return added


@task(task_run_name="harvest", persist_result=False)
def write_version(params: Params) -> dict[str, Any] | None:
    """Make the data version of all reactions and labels so far; None where it has too little that is new."""
    until = time.time() - (0 if params.learning.simulated else REACTIONS_SETTLE)
    simulated = of_simulated_users(params, 0.0, until)
    found = harvest(judged(params.events.url, 0.0, until), params.learning, simulated)
    with opened(params.events.url) as engine:
        pairs = version.pairs_of(found, labels.answered(engine))
    new = {row["id"] for row in pairs} - version.known_pairs(FOLDER)
    told = {"pairs": len(pairs), "new": len(new), **found.counts(), "reasons": found.reasons()}
    logger().info("learned from %s", told)
    if len(new) < params.learning.min_new:
        return None
    return {**told, "version": version.write_version(pairs, found, params.learning, FOLDER).digest}


@flow(name="learn", flow_run_name="learn", persist_result=False)
def learn() -> str:
    """Retrain the text line where enough is new, and put the model on trial beside the champion."""
    params = load()
    learned = write_version(params)
    if learned is None:
        return f"fewer than {params.learning.min_new} new pairs: nothing to train"
    pipeline(["package@text", "evaluate_feedback"])
    try:
        deployment = release(["text"], canary=True)["text"]
    except StageError as error:
        return f"{learned['new']} new pairs, and the model made from them is refused: {error}"
    return f"{learned['new']} new pairs, data version {learned['version'][:12]}: {deployment} is on trial"
