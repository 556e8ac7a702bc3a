"""The annotation flows: people label what the models learn most from, tiers settle it, and a data version and a better
chooser come of it.

Short runs over state in the database, which may be repeated or killed at any time; nothing waits for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from components import paths
from components.annotation import comparisons, sync, task_store
from components.annotation.batch import SampleSource
from components.annotation.data_version import prepared_labels, verdicts, write_version
from components.annotation.label_studio import Project, title
from components.annotation.quality import concerns
from components.annotation.template import Template
from components.annotation.workflow import OvertakenError, State
from components.config import load
from components.events.transactions import opened
from flows.environment import ENCODER, ROOT, STATE
from flows.labelling_server import provide_token
from flows.preference import comparison_source

DATA = ROOT / paths.DATA / "image"
LOCK = STATE / "annotate.lock"
BUSY = "another `atelier label` is at work on this project and goes on; nothing was done here"


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
