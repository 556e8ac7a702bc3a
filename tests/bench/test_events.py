from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.figures import online
from tests.bench import events as bench


def test_both_databases_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "WRITERS": (1, 8),
        "ROWS": 8,
        "WARM_UP": 1,
        "STATE": tmp_path / "state",
        "OUT": tmp_path / "events.json",
    }.items():
        monkeypatch.setattr(bench, name, value)
    bench.main(rounds=6, kills=1)
    printed = capsys.readouterr().out
    sqlite, postgresql = printed.split("PostgreSQL")
    rows = [line.split() for line in sqlite.splitlines() if line.endswith("x")]
    assert [row[0] for row in rows] == ["1", "8"]
    assert "0 lost, 0 rows damaged" in sqlite
    assert "0 lost, 0 rows damaged" in postgresql or "not installed" in postgresql
    assert list((tmp_path / "state").iterdir()) == []
    figure = online.events("SQLite")(json.loads((tmp_path / "events.json").read_text()))
    assert f"8 writing: {rows[1][1]} rows/s, {rows[1][3][:-1]} × (" in figure and " 0 lost, 0 rows damaged" in figure
