from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.artifact import seal
from components.events.schema import Deployment
from monitoring.reference import first_traffic, training
from tests.components.events.examples import DEPLOYMENT
from tests.components.events.test_window import traffic


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
    found = training("text", deployment, 5, tmp_path / "artifacts")
    assert found is not None
    assert len(found.prompts) == 5 and set(found.groups) <= {"g0", "g1", "g2"}
    assert found.prompts == training("text", deployment, 100, tmp_path / "artifacts").prompts[:5]  # type: ignore[union-attr]
    assert found.against.startswith("the training data (")


def test_another_data_version_or_another_package_is_no_reference(deployment: Deployment, tmp_path: Path) -> None:
    assert training("text", None, 5, tmp_path / "artifacts") is None
    other = deployment.model_copy(update={"digest": "b" * 64})
    assert training("text", other, 5, tmp_path / "artifacts") is None
    seal(tmp_path / "data/text/split", line="text", kind="data", parents={"x": "y"}, parameters={}, metrics={})
    assert training("text", deployment, 5, tmp_path / "artifacts") is None


def test_the_first_traffic_is_frozen_and_never_overlaps_the_window(tmp_path: Path) -> None:
    url = traffic(f"sqlite:///{tmp_path / 'events.db'}", 180)

    def times(before: float) -> list[float]:
        rows = first_traffic(url, "text", "text-1", DEPLOYMENT, before=before, minutes=1, rows=500)
        return sorted(row["time"] for row in rows)

    assert times(30.0) == [float(i) for i in range(1, 30)]  # the deployment was made at 0.5 s
    assert times(120.0) == times(170.0) == [float(i) for i in range(1, 61)]
    assert times(0.0) == []
