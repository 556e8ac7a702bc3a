"""The tuning flow around a search in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from mlflow import MlflowClient

from components.config import load
from components.stage import StageError
from components.tuning.trials import write_search
from flows import tune
from tests.components.registry.test_searches import SEARCH
from tests.mlflow_store import Store


def test_a_search_that_fails_ends_the_flow_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "ROOT", tmp_path)  # where there are no parameters to search with
    with pytest.raises(StageError, match="the search ended with exit code 1"):
        tune.tune()
    assert "error: params.yaml: cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("what", "file"), [("training", f"{load().tune.line}/tune.json"), ("sampling", "sampling/search.json")]
)
def test_a_finished_search_becomes_one_mlflow_run(
    what: Literal["training", "sampling"],
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_server: None,
    mlflow_store: Store,
) -> None:
    registry = mlflow_store(tmp_path)
    monkeypatch.setattr(tune, "load", lambda: load().model_copy(update={"registry": registry}))
    monkeypatch.setattr(tune, "ROOT", tmp_path)
    result = tmp_path / "metrics" / file
    result.parent.mkdir(parents=True)
    write_search(result, SEARCH)
    monkeypatch.setattr(tune, "search", lambda module: None)  # a search takes minutes; its result lies there already
    run_id = tune.tune(what)
    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    assert client.get_run(run_id).data.metrics == {"best_loss": 1.0}
