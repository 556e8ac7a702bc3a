"""The monitoring flow: a report on disk, and its summary where Prefect's UI shows it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.artifacts import Artifact

from components.events.database import DatabaseError
from flows import monitor
from tests.monitoring.test_report import NOW, params_in, store, traffic


def test_a_report_is_written_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> None:
    params = params_in(tmp_path)
    store(params.events.url, traffic(40))
    monkeypatch.chdir(tmp_path)  # no training data and no package: the report must do without
    monkeypatch.setattr(monitor, "load", lambda: params)
    monkeypatch.setattr(monitor, "time", SimpleNamespace(time=lambda: NOW))
    page = Path(monitor.monitor())
    assert page.is_relative_to(tmp_path / "reports") and page.exists()
    assert f"{page.parent.name}/report.html" in (tmp_path / "reports" / "ops.html").read_text()
    assert json.loads(page.with_suffix(".json").read_text())["requests"] == 40
    artifact: Any = Artifact.get("ops-report")
    assert artifact.data.startswith("40 requests (0 simulated)") and str(page) in artifact.data
    assert "Drift: **not enough data**" in artifact.data


def test_without_events_the_flow_fails_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None
) -> None:
    params = params_in(tmp_path)
    monkeypatch.setattr(monitor, "load", lambda: params)
    with pytest.raises(DatabaseError, match="no events database at"):
        monitor.monitor()
