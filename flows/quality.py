"""The quality report of a labelling project, written as one HTML file, and a lead's decision on its gold labels."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from components.annotation import task_store
from components.annotation.label_studio import title
from components.annotation.quality import doubts_about_captions, report
from components.config import Params
from components.events.transactions import opened
from components.paths import IMAGE_SPLIT
from components.stage import StageError
from flows.environment import ENCODER, ROOT
from flows.releases import person
from monitoring.page import write
from monitoring.quality import page

SPLIT = ROOT / IMAGE_SPLIT


def write_report(params: Params, out: Path) -> Path:
    """The project as it stands; raises `StageError` where the database does not answer."""
    project = title(params.annotation)
    with opened(params.events.url) as engine:
        tasks, answers, moves = task_store.read_project(engine, project)
    doubts = doubts_about_captions(tasks, SPLIT, ENCODER)
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
