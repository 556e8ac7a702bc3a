"""The report of a project in a real database, with the captions of a real data version, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.annotation import task_store
from components.annotation.batch import identity
from components.annotation.label_studio import RemoteAnnotation, title
from components.annotation.quality import doubts_about_captions
from components.annotation.sync import reconcile
from components.annotation.task_store import Task
from components.annotation.workflow import State
from components.config import load
from components.data.sample import iterate
from components.events.database import opened
from flows import annotate
from tests.components.annotation.examples import TASK, TIERS, changes
from tests.components.annotation.simulated import BEASTS, FOOD, write_data, write_set
from tests.tiny_image import write_tiny_encoder


@pytest.mark.usefixtures("assets")
def test_the_page_of_a_project_tells_who_answered_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(write_set(tmp_path / "set"), tmp_path / "data")
    monkeypatch.setattr(annotate, "DATA", data)
    monkeypatch.setattr(annotate, "ENCODER", write_tiny_encoder(tmp_path / "encoder"))
    params = load()
    name = title(params.annotation)
    here = params.model_copy(
        update={
            "events": params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"}),
            "annotation": params.annotation.model_copy(update={"tiers": TIERS}),
        }
    )
    names = {identity(s): s.text for f in (data / "split").glob("*.parquet") for s in iterate(f)}
    labels = {sample: "animal" if text in BEASTS else "food" for sample, text in names.items()}
    given = [
        RemoteAnnotation(TASK, 2 * i + person, sample, label, person, "2026-01-01T10:00:00+00:00")
        for i, (sample, label) in enumerate(labels.items())
        for person in (1, 2)
    ]
    with opened(here.events.url) as engine:
        task_store.add_tasks(engine, name, dict.fromkeys(labels, ""), "lead")
        reconcile(engine, name, lambda _: changes(given), ("animal", "food"), TIERS)
        # With two labels, two annotators who agree are not certain: a reviewer is.
        review = [
            RemoteAnnotation(TASK, 1000 + i, s, la, 7, "2026-01-01T11:00:00+00:00")
            for i, (s, la) in enumerate(labels.items())
        ]
        reconcile(engine, name, lambda _: changes([*given, *review]), ("animal", "food"), TIERS)
    page = annotate.write_report(here, tmp_path / "out" / "quality.html").read_text()
    assert f"{len(FOOD) + len(BEASTS)}</b><span>labels settled" in page
    assert "1 and 2" in page
    of_no_sample = Task(1, name, "0a", "", State.DONE, "left", 2, 0.0)  # as preferences are
    assert doubts_about_captions([of_no_sample], data / "split", annotate.ENCODER) == []
