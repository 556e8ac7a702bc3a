"""The quality report of a labelling project, written as one HTML file: a read of the database and nothing else."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from components.annotation import tier_store
from components.annotation.batch import identity
from components.annotation.label_studio import title
from components.annotation.quality import Suspicion, doubts_of_a_model, report
from components.annotation.tier_schema import Task
from components.config import Params
from components.data.sample import iterate
from components.events.database import opened
from components.paths import IMAGE_SPLIT
from components.stage import StageError
from flows.driver import person
from flows.environment import ENCODER, ROOT
from monitoring.page import write
from monitoring.quality import page

SPLIT = ROOT / IMAGE_SPLIT


def write_report(params: Params, out: Path) -> Path:
    """The project as it stands; raises `StageError` where the database does not answer."""
    project = title(params.annotation)
    with opened(params.events.url) as engine:
        tasks, moves = tier_store.tasks(engine, project), tier_store.history(engine, project)
        recorded = tier_store.records(engine, project)
    found = report(project, tasks, recorded, moves, params.annotation.tiers, time.time(), doubts(tasks))
    return write(out, lambda: page(asdict(found)))


def doubts(tasks: list[Task]) -> list[Suspicion]:
    """Settled labels that do not fit their captions, where the data version and the text encoder are here."""
    settled = {task.sample: task for task in tasks if task.label}
    if not settled or not SPLIT.is_dir() or not ENCODER.is_dir():
        return []
    from components.models.text_encoder import TextEncoder

    samples = (sample for file in sorted(SPLIT.glob("*.parquet")) for sample in iterate(file))
    texts = {identity(s): s.text for s in samples if identity(s) in settled}
    if not texts:  # preferences are about answers, not about samples
        return []
    vectors_BD = TextEncoder(ENCODER).embed([*texts.values()]).numpy()
    return doubts_of_a_model([settled[sample] for sample in texts], vectors_BD)


def settle_gold(params: Params, sample: str, label: str, why: str) -> str:
    """A lead's word on the label of a gold sample; raises `StageError` where it is none."""
    project = title(params.annotation)
    with opened(params.events.url) as engine:
        found = [task for task in tier_store.tasks(engine, project) if task.sample == sample and task.gold]
        if not found:
            raise StageError(f"{project}: no gold sample {sample!r}; `atelier label reconcile` names contradicted ones")
        tier_store.settle_gold(engine, found[0], label, person(), why)
    return f"{sample}: gold label {found[0].gold!r} → {label or '(none: an ordinary task)'}"
