"""The dashboard and the rules ask only for what exists: exported by a Bento, or recorded by a rule."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from bentos.exposition import Gpus
from monitoring import metrics
from tests.infra.prometheus.test_rules import ROOT, rules

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
NOT_NAMES = {"unless", "offset", "and", "or", "sum", "max"}


def exported() -> set[str]:
    """Names of all series of our metrics, a process and GPUs; `up` is Prometheus' own."""
    assert metrics.REQUESTS  # they are registered when the module is imported
    collectors: list[Collector] = [REGISTRY, ProcessCollector(registry=CollectorRegistry()), Gpus()]
    families = [family for collector in collectors for family in collector.collect()]
    return {"up"} | {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ())}


def names(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads."""
    selected = set(re.findall(r"atelier_\w+", " ".join(re.findall(r'__name__=~"([^"]*)"', expression))))
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", " ", expression)
    return selected | set(re.findall(r"\b[a-z_][\w:]*\b(?!\s*\()", bare)) - NOT_NAMES


def test_names_are_found_in_an_expression() -> None:
    expression = 'sum by (line) (rate({__name__=~"atelier_a_total|atelier_b_total",x="y"}[5m])) / a:b:rate5m > 14.4'
    assert names(expression) == {"atelier_a_total", "atelier_b_total", "a:b:rate5m"}


def test_everything_that_is_asked_for_exists() -> None:
    dashboard = json.loads((ROOT / "infra" / "grafana" / "atelier.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    recorded = {rule["record"] for rule in rules("recording.yml")}
    asked = panels + [rule["expr"] for file in ("recording.yml", "alerts.yml") for rule in rules(file)]
    assert {name for expression in asked for name in names(expression)} - exported() - recorded == set()


def test_every_recorded_series_is_read_and_every_metric_of_ours_is_shown_or_alerted_on() -> None:
    text = "".join(path.read_text() for path in [*Path(ROOT / "infra").glob("*/*.json"), *ROOT.glob("infra/*/*.yml")])
    assert [r["record"] for r in rules("recording.yml") if text.count(r["record"]) < 2] == []
    ours = {name.removesuffix("_bucket") for name in exported() if name.startswith("atelier_")}
    assert {n for n in ours if not n.endswith(("_sum", "_count")) and n not in text} == set()


def test_the_latency_objective_is_measured_at_a_bucket() -> None:
    text = (ROOT / "infra" / "prometheus" / "recording.yml").read_text()
    assert {float(bound) for bound in re.findall(r'le="([^"]+)"', text)} <= set(metrics.LATENCY)
