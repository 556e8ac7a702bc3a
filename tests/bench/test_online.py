from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.figures import online
from tests.bench import online as bench


def test_it_prints_and_writes_every_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {
        "AA_REPLAYS": 3,
        "AA_USERS": 600,
        "REPLAYS": 3,
        "USERS": 1500,
        "RETURNING_REPLAYS": 2,
        "RETURNING_USERS": 200,
        "TURNS": 2,
        "OUT": tmp_path / "online" / "out.json",
    }
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    bench.main()
    found = json.loads((tmp_path / "online" / "out.json").read_text())
    assert set(found["power"]) == {"0.08", "0.1", "0.15", "0.2", "0.3"}
    assert found["lift_15"]["mixture of bets (what runs)"]["fixed horizon"] == 3384
    once, returning = online.false_winners(found), online.false_winners_of_users_who_return(found)
    assert "peeking" in once and "outcomes" not in once and "outcomes the mean so far" in returning
    assert "nine of ten at most" in online.changes(found)
    assert "peeking" in capsys.readouterr().out
