"""What `atelier label` does: people label what the models learn most from, tiers settle it, and a data version and a
better chooser come of it; a page shows how sure the labels are.

The flows are short runs over state in the database, which may be repeated or killed at any time; nothing waits for
people. Answers to compare (`annotation.template: preference`) are what the service wrote to users, and what the
champion writes beside it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from sqlalchemy import Engine

from components import paths
from components.annotation import comparisons, phrase_queue, sync, task_store
from components.annotation.batch import SampleSource
from components.annotation.comparisons import Candidate, ComparisonSource
from components.annotation.data_version import prepared_labels, verdicts, write_version
from components.annotation.label_studio import Project, title
from components.annotation.quality import concerns, doubts_about_captions, report
from components.annotation.task_store import Task
from components.annotation.template import Template
from components.annotation.workflow import State
from components.config import Params, load
from components.events import window
from components.events.database import opened
from components.events.ledger import OvertakenError
from components.learning.harvest import for_annotators
from components.runtimes.base import TextRequest
from components.stage import StageError
from flows.driver import person
from flows.environment import ENCODER, ROOT, STATE
from flows.labelling_server import provide_token
from monitoring.page import write
from monitoring.quality import page

DATA = ROOT / paths.DATA / "image"
LOCK = STATE / "annotate.lock"
BUSY = "another `atelier label` is at work on this project and goes on; nothing was done here"
# Two draws at that temperature differ for 98 % of 43 phrases, at the service's own of 0.33 for 65 %.
TEMPERATURE, DRAWS = 0.7, 3


@task(task_run_name="read-answers", persist_result=False)
def read_answers() -> str:
    """Feed the tiers with what has changed in Label Studio since the last reading."""
    params = load()
    project, tiers = Project(params.annotation), params.annotation.tiers
    labels = sorted(project.categories())
    with opened(params.events.url) as engine:
        summary = sync.reconcile(engine, project.title, project.changed_since, labels, tiers)
        tasks = task_store.read_tasks(engine, project.title)
        crowd = task_store.read_crowd(engine, project.title, labels, tiers)
    for sentence in summary.refused:
        get_run_logger().warning("not counted: %s", sentence)
    counts = f"{summary.new} new answers, {summary.edited} edited, {summary.deleted} deleted, "
    return "\n".join([f"{counts}{len(summary.refused)} refused", *concerns(tasks, crowd, tiers)])


@task(task_run_name="write-version", persist_result=False)
def write_verdicts() -> str:
    """Write the data version that the settled verdicts make of the prepared samples; says what to do with it."""
    params = load()
    template = params.annotation.template
    if template == Template.PREFERENCE.value:
        with opened(params.events.url) as engine:
            return comparisons.describe(comparisons.settled(engine, params.annotation))
    labels = prepared_labels(DATA / "prepared", DATA / "split", template)
    with opened(params.events.url) as engine:
        settled, refused = verdicts(*task_store.read_project(engine, title(params.annotation)), labels, template)
    for sentence in refused:
        get_run_logger().warning("no verdict: %s", sentence)
    if not settled:
        return "nothing is settled yet: no data version was written"
    folder, manifest = write_version(settled, DATA / "prepared", DATA / "split", DATA / "annotated", template)
    path, size = folder.relative_to(ROOT), params.prepare.image.size
    return (
        f"{len(settled)} verdicts: {manifest.metrics['corrected']} samples corrected, "
        f"{manifest.metrics['discarded']} left out\n"
        f"data version {manifest.digest}\n"
        f"in           {path}\n"
        "to make the models from it, set in params.yaml and run `dvc repro`:\n"
        f"prepare:\n  image: {{source: folder, path: {path}, limit: null, size: {size}}}"
    )


@task(task_run_name="send", persist_result=False)
def send_next() -> str:
    """Show tasks to the tier that they wait for; where annotators run short, add those that teach most."""
    params = load()
    settings, project = params.annotation, Project(params.annotation)
    with opened(params.events.url) as engine:
        tasks = task_store.read_tasks(engine, project.title)
        source = (
            comparison_source(params, engine, tasks)
            if settings.template == Template.PREFERENCE.value
            else SampleSource(settings, engine, tasks, DATA / "split", ENCODER)
        )
        address = project.ensure(source.labels)
        sync.catch_up(engine, project)
        outlook = source.add_batch()
        sent = sync.send(engine, project, source.payloads)
        moved = sync.update_views(engine, project, source.labels, settings.tiers)
        states = Counter(task.state for task in task_store.read_tasks(engine, project.title) if not task.gold)
    waiting = ", ".join(f"{count} {state}" for state in State if (count := states[state]))
    counts = f"{sent} new tasks, {moved} moved to another tab; now {waiting or 'nothing to label'}"
    return "\n".join([counts, *filter(None, [outlook]), f"label at {address}"])


@flow(name="annotate-upload", flow_run_name="annotate-upload", persist_result=False)
def upload() -> str:
    """Give annotators what the models learn most from."""
    return _alone(lambda: [send_next()])


@flow(name="annotate-reconcile", flow_run_name="annotate-reconcile", persist_result=False)
def reconcile() -> str:
    """Count what people have answered, write the data version, and send what comes next."""
    params = load()
    with opened(params.events.url) as engine:
        if not task_store.read_tasks(engine, title(params.annotation)):
            return "nobody labels yet: `atelier label upload` opens the project"
    return _alone(lambda: [read_answers(), write_verdicts(), send_next()])


def _alone(steps: Callable[[], list[str]]) -> str:
    """Take the steps unless another run is at them, on this machine or on another; returns their messages."""
    provide_token(load())
    try:
        with FileLock(LOCK, timeout=0):
            message = "\n".join(steps())
    except (Timeout, OvertakenError):
        return BUSY
    create_markdown_artifact(key="annotation", markdown=message.replace("\n", "  \n"))
    return message


def comparison_source(params: Params, engine: Engine, tasks: Sequence[Task]) -> ComparisonSource:
    """Users' phrases, each with two answers: disliked ones first, and those that wait for an annotator's prompt."""
    return ComparisonSource(
        params.annotation,
        engine,
        tasks,
        candidates=lambda: service_answers(params, engine),
        generate=lambda phrases: generate(params, phrases),
    )


def service_answers(params: Params, engine: Engine) -> tuple[list[Candidate], list[Candidate]]:
    """The service's answers within the learning window to users who may teach: those to compare first, and all."""
    from flows.learn import DAY, of_simulated_users  # imports what builds Bentos

    until = time.time()
    since, url = until - DAY * params.learning.window_days, params.events.url
    sample = window.sample(url, since, until, line="text", rows=params.monitor.sample_rows)
    rows = for_annotators(sample, params.learning, of_simulated_users(params, since, until))
    reactions = window.reactions_to(url, [row["request_id"] for row in rows])
    disliked = {reaction["request_id"] for reaction in reactions if reaction["value"] <= 0}
    answers = {
        row["request_id"]: Candidate(
            row["prompt"], row["output"], f"response {row['request_id']} of {row['deployment']}"
        )
        for row in rows
    }
    urgent = [answer for request, answer in answers.items() if request in disliked]
    urgent += [
        Candidate(task.phrase, task.written, f"labelling task {task.task}") for task in phrase_queue.open_tasks(engine)
    ]
    return urgent, [*answers.values()]


def generate(params: Params, phrases: Sequence[str]) -> list[Candidate]:
    """Have the champion answer each phrase `DRAWS` times; raises `StageError` where no text model is deployed."""
    from components.runtimes.text import load_text
    from flows.driver import plan
    from flows.release import champion_folder
    from flows.stack import served

    champion = served("text", plan("text", params).champion)
    if champion is None:
        raise StageError(
            "no text model is deployed that could write a second answer; run `atelier release start` first"
        )
    tokens, top_p = params.serving.text_max_new_tokens, params.serving.text_top_p
    draws = [(phrase, seed) for phrase in phrases for seed in range(DRAWS)]
    runtime = load_text(champion_folder(champion, params.registry))
    try:
        results = runtime.generate([TextRequest((("user", p),), tokens, TEMPERATURE, top_p, seed) for p, seed in draws])
    finally:
        runtime.close()
    origin = f"{champion.deployment} at temperature {TEMPERATURE}, seed"
    return [Candidate(p, result.text, f"{origin} {seed}") for (p, seed), result in zip(draws, results, strict=True)]


def write_report(params: Params, out: Path) -> Path:
    """The project as it stands; raises `StageError` where the database does not answer."""
    project = title(params.annotation)
    with opened(params.events.url) as engine:
        tasks, answers, moves = task_store.read_project(engine, project)
    doubts = doubts_about_captions(tasks, DATA / "split", ENCODER)
    document = report(project, tasks, answers, moves, params.annotation.tiers, time.time(), doubts)
    return write(out, lambda: page(asdict(document)))


def settle_gold(params: Params, sample: str, label: str, why: str) -> str:
    """Record a lead's decision on the label of a gold sample; raises `StageError` where it is none."""
    project = title(params.annotation)
    with opened(params.events.url) as engine:
        gold = [task for task in task_store.read_tasks(engine, project) if task.sample == sample and task.gold]
        if not gold:
            raise StageError(f"{project}: no gold sample {sample!r}; `atelier label reconcile` names contradicted ones")
        task_store.settle_gold(engine, gold[0], label, person(), why)
    return f"{sample}: gold label {gold[0].gold!r} → {label or '(none: an ordinary task)'}"
