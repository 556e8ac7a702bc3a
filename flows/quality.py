"""The quality report of the labelling project, written as one HTML file: a read of the database, nothing else."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from components.annotation import tier_store
from components.annotation.label_studio import Project
from components.annotation.quality import report
from components.artifact import write_text
from components.config import Params
from components.releases.database import opened
from monitoring.quality import page


def write_report(params: Params, out: Path) -> Path:
    """The project in `params.yaml` as it stands; raises `StageError` where server or database do not answer."""
    project = Project(params.annotation)
    labels = sorted(project.categories())
    with opened(params.events.url) as engine:
        tasks, moves = tier_store.tasks(engine, project.title), tier_store.history(engine, project.title)
        recorded = tier_store.records(engine, project.title)
    found = report(project.title, tasks, recorded, moves, labels, params.annotation.tiers, time.time())
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page(asdict(found)))
    return out
