"""The report of a project in a real database, with the captions of a real data version, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.annotation import tier_store
from components.annotation.label_studio import Answer as Annotation
from components.annotation.label_studio import title
from components.annotation.tier_reconcile import reconcile
from components.annotation.tier_schema import Task
from components.annotation.tiers import State
from components.config import load
from components.events.database import opened
from flows import quality
from tests.components.annotation.examples import TASK, TIERS, polled
from tests.components.annotation.simulated import BEASTS, FOOD, write_data, write_set
from tests.tiny_image import write_tiny_encoder


@pytest.mark.usefixtures("assets")
def test_the_page_of_a_project_tells_who_answered_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(write_set(tmp_path / "set"), tmp_path / "data")
    monkeypatch.setattr(quality, "SPLIT", data / "split")
    monkeypatch.setattr(quality, "ENCODER", write_tiny_encoder(tmp_path / "encoder"))
    params = load()
    name = title(params.annotation)
    here = params.model_copy(
        update={
            "events": params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"}),
            "annotation": params.annotation.model_copy(update={"tiers": TIERS}),
        }
    )
    names = {quality.identity(s): s.text for f in (data / "split").glob("*.parquet") for s in quality.iterate(f)}
    labels = {sample: "animal" if text in BEASTS else "food" for sample, text in names.items()}
    given = [
        Annotation(TASK, 2 * i + person, sample, label, person, "2026-01-01T10:00:00+00:00")
        for i, (sample, label) in enumerate(labels.items())
        for person in (1, 2)
    ]
    with opened(here.events.url) as engine:
        tier_store.add(engine, name, dict.fromkeys(labels, ""), "lead")
        reconcile(engine, name, lambda _: polled(given), ("animal", "food"), TIERS)
        # With two labels, two strangers who agree are not certain: a reviewer is.
        review = [
            Annotation(TASK, 1000 + i, s, la, 7, "2026-01-01T11:00:00+00:00")
            for i, (s, la) in enumerate(labels.items())
        ]
        reconcile(engine, name, lambda _: polled([*given, *review]), ("animal", "food"), TIERS)
    page = quality.write_report(here, tmp_path / "out" / "quality.html").read_text()
    assert f"{len(FOOD) + len(BEASTS)}</b><span>labels settled" in page
    assert "1 and 2" in page
    of_no_sample = Task(1, name, "0a", "", State.DONE, "left", 2, 0.0)  # as preferences are
    assert quality.doubts([of_no_sample]) == []
