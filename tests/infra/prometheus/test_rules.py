"""The rules on made-up series, through Prometheus' own tool; and each alert's words for people."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config import load
from flows import alerting

ROOT = Path(__file__).resolve().parents[3]
CONFIGURATION = ROOT / "infra" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
CASES = sorted((Path(__file__).parent / "rules").glob("*.yml"))


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((CONFIGURATION / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_who_is_told_of_what_and_when_it_is_over(binaries: Path, case: Path) -> None:
    ended = subprocess.run([binaries / "promtool", "test", "rules", case], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_is_tested() -> None:
    words = "".join(case.read_text() for case in CASES)
    assert [rule["alert"] for rule in rules("alerts.yml") if rule["alert"] not in words] == []


def test_the_configurations_are_what_the_programs_accept(binaries: Path, tmp_path: Path) -> None:
    written = alerting.write_prometheus(load(), tmp_path / "prometheus.yml")
    subprocess.run([binaries / "promtool", "check", "config", written], check=True)
    with_address = (CONFIGURATION / "alertmanager.yml").read_text().replace("$webhook", "http://127.0.0.1:1/")
    (tmp_path / "alertmanager.yml").write_text(with_address)
    subprocess.run([binaries / "amtool", "check-config", tmp_path / "alertmanager.yml"], check=True)


@pytest.mark.parametrize("rule", rules("alerts.yml"), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_urgent_it_is_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{rule['alert']}.md"
    assert (ROOT / rule["annotations"]["runbook"]).read_text().startswith(f"# {rule['alert']}\n")


def test_every_runbook_is_that_of_an_alert() -> None:
    from_flows = set(re.findall(r'"alertname": "(\w+)"', (ROOT / "flows" / "automations.py").read_text()))
    assert {page.stem for page in RUNBOOKS.iterdir()} == {rule["alert"] for rule in rules("alerts.yml")} | from_flows
