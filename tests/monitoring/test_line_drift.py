from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.artifact import seal
from components.events.schema import Deployment
from monitoring.drift import Comparison
from monitoring.line_drift import Served, TrainingTexts, comparisons_of, first_traffic, texts_of, training_texts
from tests.components.events.examples import DEPLOYMENT
from tests.components.events.test_window import traffic
from tests.monitoring.examples import like, row


def served(line: str = "text", training: TrainingTexts | None = None) -> Served:
    earlier = [row(f"e{i}", line=line, user_key=f"u{i}", prompt="a hen", output="hen: animal") for i in range(3)]
    rows = [row(f"r{i}", line=line, user_key=f"u{i}", time=900.0 + i, prompt="an owl") for i in range(4)]
    return Served(line, f"{line}-1", rows, earlier, [like("r0", user="u0", at=910.0)], training)


def compared(one: Served) -> list[Comparison]:
    return comparisons_of(one, texts_of(one, None), 800.0, 2000.0)


def test_prompts_are_held_against_the_training_data_and_17_outputs_against_the_models_own() -> None:
    training = TrainingTexts(["a fox", "a cow"], ["fox", "cow"], "the training data (0123)")
    prompts, outputs, service = compared(served(training=training))
    assert (prompts.name, prompts.against, len(prompts.reference), len(prompts.current)) == (
        "text prompts",
        "the training data (0123)",
        2,
        4,
    )
    assert (outputs.against, len(outputs.reference)) == ("the first traffic of text-1", 3)
    assert (service.name, service.against) == ("text service", "the first traffic of text-1")
    assert service.current["reacted"].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_without_the_training_data_the_first_traffic_is_the_reference() -> None:
    prompts, _, _ = compared(served())
    assert prompts.against == "the first traffic of text-1"
    assert prompts.reference["characters"].tolist() == [5.0] * 3


def test_pictures_have_no_outputs_on_record() -> None:
    assert [c.name for c in compared(served("image"))] == ["image prompts", "image service"]


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A deployment of a package that was trained on twelve samples, all of them in `tmp_path`."""
    import pandas as pd

    split, package = tmp_path / "data" / "text" / "split", tmp_path / "artifacts" / "text" / "package"
    split.mkdir(parents=True)
    package.mkdir(parents=True)
    rows = [{"id": f"s{i}", "text": f"a fox {i}", "meta": json.dumps({"split_group": f"g{i % 3}"})} for i in range(12)]
    pd.DataFrame(rows).to_parquet(split / "train.parquet")
    sealed = {"line": "text", "parameters": {}, "metrics": {}}
    data = seal(split, kind="data", parents={}, **sealed)
    digest = seal(package, kind="package", parents={"data": data.digest}, **sealed).digest
    return DEPLOYMENT.model_copy(update={"digest": digest})


def test_the_training_data_is_that_of_the_deployment(deployment: Deployment, tmp_path: Path) -> None:
    found = training_texts("text", deployment, 5, tmp_path / "artifacts")
    assert found is not None
    assert len(found.prompts) == 5 and set(found.groups) <= {"g0", "g1", "g2"}
    assert found.prompts == training_texts("text", deployment, 100, tmp_path / "artifacts").prompts[:5]  # type: ignore[union-attr]
    assert found.against.startswith("the training data (")


def test_another_data_version_or_another_package_is_no_reference(deployment: Deployment, tmp_path: Path) -> None:
    assert training_texts("text", None, 5, tmp_path / "artifacts") is None
    other = deployment.model_copy(update={"digest": "b" * 64})
    assert training_texts("text", other, 5, tmp_path / "artifacts") is None
    seal(tmp_path / "data/text/split", line="text", kind="data", parents={"x": "y"}, parameters={}, metrics={})
    assert training_texts("text", deployment, 5, tmp_path / "artifacts") is None


def test_the_first_traffic_is_frozen_and_never_overlaps_the_window(tmp_path: Path) -> None:
    url = traffic(f"sqlite:///{tmp_path / 'events.db'}", 180)

    def times(before: float) -> list[float]:
        rows = first_traffic(url, "text", "text-1", DEPLOYMENT, before=before, minutes=1, rows=500)
        return sorted(row["time"] for row in rows)

    assert times(30.0) == [float(i) for i in range(1, 30)]  # the deployment was made at 0.5 s
    assert times(120.0) == times(170.0) == [float(i) for i in range(1, 61)]
    assert times(0.0) == []
