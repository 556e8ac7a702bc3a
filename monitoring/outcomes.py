"""What an experiment's metrics and guardrails make of its users' requests, as the events' reader gives them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from components.config import Experiment, Guardrails
from components.events.schema import KINDS
from components.experiments.exposures import Exposure

Row = dict[str, Any]


def exposures(experiment: Experiment, requests: Iterable[Row]) -> Iterator[Exposure]:
    """Every request with its values, one at a time; of those before a user entered only what the deciding metric is."""
    cap, limits = experiment.dwell_cap_s, experiment.guardrails
    for row in requests:
        past = row["experiment"] != experiment.name
        kinds = (experiment.metric,) if past else KINDS
        values: dict[str, float] = {kind: scaled(kind, row[kind], cap) for kind in kinds}
        if limits and not past:
            values |= breaches(limits, row)
        known = {name: row[name] for name in ("user_key", "time", "variant", "propensity", "segments")}
        yield Exposure(**known, values=values, past=past)


def scaled(kind: str, value: float | None, cap: float) -> float:
    """A reaction's value in [0, 1]; `cap` is the seconds of dwell that count as 1. No reaction is 0."""
    return min(max((value or 0.0) / (cap if kind == "dwell" else 1.0), 0.0), 1.0)


def breaches(limits: Guardrails, request: Row) -> dict[str, bool]:
    """By guardrail, whether a request broke it, as far as that is known when its user's window `closes`.

    `slow`: it took longer than the limit or had not ended by then; not taken of one that was asked too shortly before
    the window closed to be found slow, nor of one that its user gave up sooner.
    `refused`: it ended well with nothing in it, and not because of its client's own bound.
    """
    broken, answered = dict[str, bool](), request["outcome"] in ("ok", "error")
    slow = request["latency_s"] is None or request["latency_s"] > limits.slo_s
    if request["time"] + limits.slo_s < request["closes"] and (slow or answered):
        broken["slow"] = slow
    if answered:
        empty = request["outcome"] == "ok" and not request["output"].strip() and not request["cut"]
        broken |= {"failed": request["outcome"] == "error", "refused": empty}
    return broken
