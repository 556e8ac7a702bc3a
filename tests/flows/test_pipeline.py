"""The pipeline flow against a real DVC repository of three small stages and a real temporary Prefect server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows import pipeline

GRAPH = """
stages:
  last:
    cmd: python use.py
    deps: [first.txt, use.py]
    outs: [last.txt]
  first:
    cmd: python -c "open('first.txt', 'w').write('1')"
    outs: [first.txt]
  apart:
    cmd: python -c "open('apart.txt', 'w').write('1')"
    outs: [apart.txt]
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "use.py").write_text("raise SystemExit('the dog ate the samples')")
    monkeypatch.setattr(pipeline, "ROOT", tmp_path)
    return tmp_path


def test_stage_order_puts_needs_first_and_leaves_out_what_no_target_needs(repository: Path) -> None:
    assert pipeline.stage_order(["last"]) == ["first", "last"]
    assert set(pipeline.stage_order([])) == {"first", "last", "apart"}


def test_an_unknown_stage_is_refused_by_name(repository: Path) -> None:
    with pytest.raises(ValueError, match=r"no such stage: lsat; dvc\.yaml has apart, first, last"):
        pipeline.stage_order(["lsat"])


def test_a_failed_stage_fails_its_run_with_its_own_error_and_a_rerun_continues(
    repository: Path, prefect_server: None
) -> None:
    with pytest.raises(pipeline.StageFailedError, match="the dog ate the samples"):
        pipeline.pipeline(["last"])
    (repository / "use.py").write_text("open('last.txt', 'w').write(open('first.txt').read())")
    assert pipeline.pipeline(["last"]) == {"first": "cached", "last": "ran"}
    assert pipeline.pipeline(["last"]) == {"first": "cached", "last": "cached"}
