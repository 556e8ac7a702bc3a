"""Hyper-parameter searches in MLflow: one parent run per search, one nested run per trial, written once per content."""

from __future__ import annotations

import hashlib

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components import config
from components.artifact import canonical
from components.registry.connection import connect, experiment_id
from components.registry.registry import LINE
from components.tuning.trials import Search, Trial

SEARCH = "atelier.search"


def log_search(search: Search, settings: config.Registry) -> str:
    """Log a search with its trials; returns the parent run's id, the same for the same search logged before."""
    digest = hashlib.sha256(canonical(search.model_dump(mode="json")).encode()).hexdigest()
    with connect(settings) as client:
        experiment = experiment_id(client, settings)
        runs = client.search_runs([experiment], f"tags.`{SEARCH}` = '{digest}'", max_results=1)
        if runs and runs[0].info.status == "FINISHED":
            return str(runs[0].info.run_id)
        for left in runs:  # an interrupted attempt: its trials may be incomplete
            discard(client, experiment, left.info.run_id)
        return write(client, experiment, search, digest)


def discard(client: MlflowClient, experiment: str, parent: str) -> None:
    """Delete a parent run and its trials."""
    for run in client.search_runs([experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"):
        client.delete_run(run.info.run_id)
    client.delete_run(parent)


def write(client: MlflowClient, experiment: str, search: Search, digest: str) -> str:
    """The parent run with its nested trials; finished last, so that a finished parent is a complete one."""
    parent = client.create_run(experiment, tags={SEARCH: digest, LINE: search.line}, run_name=f"tune-{search.line}")
    run_id = str(parent.info.run_id)
    for trial in search.trials:
        write_trial(client, experiment, run_id, trial)
    best = search.best
    params = [Param(f"best.{key}", str(value)) for key, value in best.parameters.items()]
    params += [Param("seed", str(search.seed)), Param("objective", search.objective)]
    client.log_batch(run_id, metrics=losses(best, "best_loss", parent), params=params)
    client.set_terminated(run_id)
    return run_id


def losses(trial: Trial, key: str, run: Run) -> list[Metric]:
    return [] if trial.loss is None else [Metric(key, trial.loss, run.info.start_time, 0)]


def write_trial(client: MlflowClient, experiment: str, parent: str, trial: Trial) -> None:
    tags = {MLFLOW_PARENT_RUN_ID: parent}
    run = client.create_run(experiment, tags=tags, run_name=f"trial-{trial.number}")
    params = [Param(key, str(value)) for key, value in trial.parameters.items()]
    client.log_batch(run.info.run_id, metrics=losses(trial, "loss", run), params=params)
    if trial.error is not None:
        client.set_tag(run.info.run_id, "atelier.error", trial.error)
    client.set_terminated(run.info.run_id, "FINISHED" if trial.status == "ok" else "FAILED")
