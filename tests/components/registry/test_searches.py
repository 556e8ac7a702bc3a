"""A search becomes one parent run with nested trials, once, also after an interrupted attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.registry.searches import log_search
from components.tuning.trials import Search, Trial
from tests.mlflow_store import Store

TRIALS = (
    Trial(number=0, parameters={"learning_rate": 0.1}, status="ok", loss=2.0),
    Trial(number=1, parameters={"learning_rate": 0.2}, status="failed", loss=None, error="no memory"),
    Trial(number=2, parameters={"learning_rate": 0.3}, status="ok", loss=1.0),
)
SEARCH = Search(line="image", seed=7, objective="validation_loss", trials=TRIALS)


def test_a_search_is_logged_once_with_its_trials_nested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: Store
) -> None:
    settings = mlflow_store(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "set_tag", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        log_search(SEARCH, settings)  # stops in the second trial
    parent = log_search(SEARCH, settings)
    assert log_search(SEARCH, settings) == parent
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    runs = client.search_runs(
        [client.get_experiment_by_name("atelier").experiment_id], order_by=["attributes.start_time"]
    )
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
    assert len(runs) == 4
    assert {run.info.run_name: run.info.status for run in nested} == {
        "trial-0": "FINISHED",
        "trial-1": "FAILED",
        "trial-2": "FINISHED",
    }
    assert client.get_run(parent).data.metrics == {"best_loss": 1.0}
    assert client.get_run(parent).data.params["best.learning_rate"] == "0.3"
