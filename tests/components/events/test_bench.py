from __future__ import annotations

from pathlib import Path

import pytest

from components.events import bench


def test_both_databases_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"ROWS": 64, "WARM_UP": 1, "STATE": tmp_path / "state"}.items():
        monkeypatch.setattr(bench, name, value)
    bench.main(rounds=1, kills=1)
    printed = capsys.readouterr().out
    sqlite, postgresql = printed.split("PostgreSQL")
    rows = [line.split() for line in sqlite.splitlines() if line.endswith("x")]
    assert [row[0] for row in rows] == ["1", "8", "64"]
    assert "0 lost, 0 rows damaged" in sqlite
    assert "0 lost, 0 rows damaged" in postgresql or "not installed" in postgresql
    assert list((tmp_path / "state").iterdir()) == []
