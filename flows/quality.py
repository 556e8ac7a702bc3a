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
        read = (f(engine, project.title) for f in (tier_store.tasks, tier_store.records, tier_store.history))
        found = report(project.title, *read, labels, params.annotation.tiers, time.time())
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page(asdict(found)))
    return out
