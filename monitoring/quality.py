"""The page of a labelling project that a lead reads; its numbers come from outside, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from monitoring.charts import trend
from monitoring.page import render


def page(report: Mapping[str, Any]) -> str:
    """One HTML file, with nothing in it that has to be fetched; `report`: the fields of a `quality.Report`."""
    cost, done = report["cost"], report["states"]["done"]
    each = sum(cost.values()) / done if done else None
    return render("quality.html", **report, each=each, curve=lambda person: _curve(person, report["min_accuracy"]))


def _curve(person: Mapping[str, Any], min_accuracy: float) -> Markup | str:
    curve = person["curve"]
    if not curve:
        return "too few answers"
    wrong = [1 - share for share in curve["right"]]
    hot = [False] * (len(wrong) - 1) + [curve["drifts"]]
    return trend(curve["times"], wrong, hot, 1 - min_accuracy, f"share of wrong answers of {person['name']} over time")
