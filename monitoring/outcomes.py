"""What an experiment's metrics and guardrails make of its users' requests, as the events' reader gives them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from components.config import Experiment, Guardrails
from components.events.schema import KINDS
from components.experiments.exposures import Exposure

Row = dict[str, Any]


def exposures(experiment: Experiment, requests: Iterable[Row], now: float) -> Iterator[Exposure]:
    """Every request with its values, one at a time; of those before a user entered only what the deciding metric is."""
    cap, limits = experiment.dwell_cap_s, experiment.guardrails
    for row in requests:
        past = row["experiment"] != experiment.name
        kinds = (experiment.metric,) if past else KINDS
        values: dict[str, float] = {kind: scaled(kind, row[kind], cap) for kind in kinds}
        if limits and not past:
            values |= breaches(limits, row, now)
        known = {name: row[name] for name in ("user_key", "time", "variant", "propensity", "segments")}
        yield Exposure(**known, values=values, past=past)


def scaled(kind: str, value: float | None, cap: float) -> float:
    """A reaction's value in [0, 1]; `cap` is the seconds of dwell that count as 1. No reaction is 0."""
    return min(max((value or 0.0) / (cap if kind == "dwell" else 1.0), 0.0), 1.0)


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
