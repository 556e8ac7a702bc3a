"""The experiment's rows from events: which requests were in it, and what its metric makes of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from components.config import Experiment, Guardrails
from components.events.schema import NEWEST
from components.experiments.exposures import Exposure
from components.experiments.metrics import scaled
from components.experiments.statistics import Analysis, analyse

Row = dict[str, Any]


def reactions(experiment: Experiment, feedback: Iterable[Row]) -> dict[tuple[str, str], float]:
    """What the metric makes of each user's last word on each response, in [0, 1], by (request id, user key)."""
    kind, cap = experiment.metric, experiment.dwell_cap_s
    mine = (row for row in feedback if row["kind"] == kind)
    ordered = sorted(mine, key=lambda row: tuple(row[column.name] for column in NEWEST))
    return {(row["request_id"], row["user_key"]): scaled(kind, row["value"], cap) for row in ordered}


def breaches(limits: Guardrails, request: Row, now: float) -> dict[str, bool]:
    """By guardrail, whether a request broke it; one that has not ended is slow once it has waited too long.

    `refused`: it ended well with nothing in it. Who hangs up broke no guardrail but, if it came to that, patience.
    """
    waited = request["latency_s"] if request["latency_s"] is not None else now - request["time"]
    found = {"slow": waited > limits.slo_s}
    if request["outcome"] is not None:
        empty = request["outcome"] == "ok" and not request["output"].strip()
        found |= {"failed": request["outcome"] == "error", "refused": empty}
    return found


def exposures(
    experiment: Experiment, requests: Iterable[Row], feedback: Iterable[Row], now: float = float("inf")
) -> list[Exposure]:
    """Every request inside the experiment with its value; others' feedback on a user's response does not count."""
    said, limits = reactions(experiment, feedback), experiment.guardrails
    return [
        Exposure(
            user_key=row["user_key"],
            time=row["time"],
            variant=row["variant"],
            propensity=row["propensity"],
            value=said.get((row["request_id"], row["user_key"]), 0.0),
            breaches=breaches(limits, row, now) if limits else {},
        )
        for row in requests
        if row["experiment"] == experiment.name
    ]


def pasts(experiment: Experiment, requests: Sequence[Row], feedback: Iterable[Row]) -> dict[str, float]:
    """Mean value of the requests on the experiment's line of each of its users, from before they first saw a variant.

    A reaction that came later is left out as well: a variant may have coloured it.
    """
    entered: dict[str, float] = {}
    for row in requests:
        if row["experiment"] == experiment.name:
            entered[row["user_key"]] = min(row["time"], entered.get(row["user_key"], row["time"]))
    before = (row for row in feedback if row["time"] < entered.get(row["user_key"], 0.0))
    earlier = reactions(experiment, before)
    found: dict[str, list[float]] = {}
    for row in requests:
        if row["line"] == experiment.line and row["time"] < entered.get(row["user_key"], 0.0):
            found.setdefault(row["user_key"], []).append(earlier.get((row["request_id"], row["user_key"]), 0.0))
    return {user: sum(values) / len(values) for user, values in found.items()}


def experiment_result(
    experiment: Experiment, requests: Sequence[Row], feedback: Sequence[Row], now: float = float("inf")
) -> Analysis:
    """The experiment's analysis; give it all rows since users' pasts began, as its interval covers every look."""
    rows = exposures(experiment, requests, feedback, now)
    return analyse(experiment, rows, pasts(experiment, requests, feedback), now)
