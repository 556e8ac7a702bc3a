from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.annotation import crowd
from infra.figures import online
from tests.bench import tiers as tiers_bench
from tests.bench.tiers_simulate import World


def test_it_prints_tables_and_writes_every_figure_with_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiers_bench, "OUT", tmp_path / "annotation" / "tiers.json")
    monkeypatch.setattr(crowd, "MOST_STEPS", 3)  # of fits to few answers, which would take hundreds
    monkeypatch.setattr(tiers_bench, "SEEDS", range(2))
    monkeypatch.setattr(tiers_bench, "WORLDS", {"small": World(items=60, waves=2)})
    monkeypatch.setattr(tiers_bench, "COMPARED", ("small",))
    tiers_bench.main()
    found = json.loads(tiers_bench.OUT.read_text())
    figures = found["worlds"]["small"]
    mean, low, high = figures["answers"]
    assert low <= mean <= high
    parts = sum(figures[part][0] for part in ("annotate", "review", "arbitrate", "gold"))
    assert parts == pytest.approx(mean, abs=0.001)
    assert f"small → {100 * figures['accuracy'][0]:.1f} % (" in online.tiers(found)
    assert len(found["policies"]) == len(tiers_bench.POLICIES)
    assert "99 % with fewer answers than a majority of five" in capsys.readouterr().out
