"""The experiment's rows from events: which requests were in it, and which of them their user liked. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from components.config import Experiment
from components.experiments.statistics import Analysis, Exposure, analyse

Row = dict[str, Any]
LIKE = "like"


def likes(feedback: Iterable[Row]) -> dict[tuple[str, str], float]:
    """The latest reaction of each user to each response, by (request id, user key): 1 liked, 0 not."""
    ordered = sorted((row for row in feedback if row["kind"] == LIKE), key=lambda row: row["time"])
    return {(row["request_id"], row["user_key"]): min(max(float(row["value"]), 0.0), 1.0) for row in ordered}


def exposures(name: str, requests: Iterable[Row], feedback: Iterable[Row]) -> list[Exposure]:
    """Every request inside the experiment, liked or not; others' feedback on a user's response does not count."""
    reactions = likes(feedback)
    return [
        Exposure(
            user_key=row["user_key"],
            time=row["time"],
            variant=row["variant"],
            propensity=row["propensity"],
            liked=reactions.get((row["request_id"], row["user_key"]), 0.0),
        )
        for row in requests
        if row["experiment"] == name
    ]


def experiment_result(experiment: Experiment, requests: Iterable[Row], feedback: Iterable[Row]) -> Analysis:
    """The experiment's analysis; give it all rows since the experiment began, as its interval covers every look."""
    return analyse(experiment, exposures(experiment.name, requests, feedback))
