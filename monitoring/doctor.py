"""The page about a source of data, from the report of `components.doctor` as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from monitoring.charts import histogram
from monitoring.page import render


def page(report: Any, cost: Sequence[str], now: float) -> str:
    """One HTML file, with nothing in it that has to be fetched and no script."""
    return render("doctor.html", r=report, cost=cost, now=now, chart=_chart)


def _chart(of: Any) -> Markup:
    return histogram(of.edges, of.counts, of.bound, f"{of.title}, in {of.unit}")
