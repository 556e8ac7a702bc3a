"""The pipeline flow against a real DVC repository of three small stages and a real temporary Prefect server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL

from components.stage import StageError
from flows import pipeline
from tests.infra.prometheus.test_delivery import eventually

ROOT = Path(__file__).resolve().parents[2]

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

two_halves = pytest.mark.skipif(
    len(pipeline.halves()) < 2, reason="one core, or a system that binds no process to some"
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "use.py").write_text("raise SystemExit('the dog ate the samples')")
    monkeypatch.setattr(pipeline, "ROOT", tmp_path)
    return tmp_path


def test_a_plan_holds_what_the_targets_need_and_which_stages_run_alone(repository: Path) -> None:
    assert pipeline.plan(["last"]) == pipeline.Plan({"last": {"first"}, "first": set()}, set(), set())
    assert set(pipeline.plan([]).needs) == {"first", "last", "apart"}
    (repository / "dvc.yaml").write_text(GRAPH.replace("  apart:", "  apart:\n    meta: {alone: true}"))
    assert pipeline.plan([]).alone == {"apart"}


def test_where_an_api_serves_nothing_that_needs_a_base_model_is_made(repository: Path) -> None:
    assert set(pipeline.plan([], "first").needs) == {"apart"}
    with pytest.raises(StageError, match=r"last: base\.text\.endpoint names an API"):
        pipeline.plan(["last"], "first")


def test_41_what_trainings_need_runs_first_then_they_and_then_the_rest() -> None:
    needs: dict[str, set[str]] = {"rest": set(), "data": set(), "train": {"data"}, "evaluate": {"train"}}
    stages = pipeline.Plan(needs, {"train"}, {"data"})
    assert pipeline.startable(["rest", "data"], stages, [], running=False) == "data"
    assert pipeline.startable(["rest"], stages, [], running=True) is None
    assert pipeline.startable(["rest", "train"], stages, ["data"], running=True) is None
    assert pipeline.startable(["rest", "train"], stages, ["data"], running=False) == "train"
    assert pipeline.startable(["rest", "evaluate"], stages, ["data", "train"], running=True) == "rest"


def test_an_unknown_stage_is_refused_by_name(repository: Path) -> None:
    with pytest.raises(StageError, match=r"no such stage: lsat; dvc\.yaml has apart, first, last"):
        pipeline.plan(["lsat"])


def test_a_failed_stage_fails_its_run_with_its_own_error_and_a_rerun_continues(
    repository: Path, prefect_server: None
) -> None:
    with pytest.raises(pipeline.StageFailedError, match="the dog ate the samples"):
        pipeline.pipeline(["last"])
    (repository / "use.py").write_text("open('last.txt', 'w').write(open('first.txt').read())")
    assert pipeline.pipeline(["last"]) == {"first": "cached", "last": "ran"}
    assert pipeline.pipeline(["last"]) == {"first": "cached", "last": "cached"}


@two_halves
def test_41_two_stages_run_side_by_side_each_on_half_of_the_cores_and_a_training_alone(
    repository: Path, prefect_server: None
) -> None:
    code = """import os, pathlib, sys, time
own, other = sys.argv[1:]
pathlib.Path(own).write_text(" ".join(map(str, sorted(os.sched_getaffinity(0)))))
limit = time.monotonic() + 60
while other != "nobody" and not pathlib.Path(other).exists():
    assert time.monotonic() < limit, other + " does not run beside " + own
    time.sleep(0.05)
if own == "alone":
    sys.exit(pathlib.Path("a").exists() or pathlib.Path("b").exists())
"""
    (repository / "stage.py").write_text(code)
    stages = {"a": "b", "b": "a", "alone": "nobody"}
    graph = [f"  {own}: {{cmd: python stage.py {own} {other}, outs: [{own}]}}" for own, other in stages.items()]
    graph[2] = graph[2].replace("outs", "meta: {alone: true}, outs")
    (repository / "dvc.yaml").write_text("stages:\n" + "\n".join(graph))
    assert pipeline.pipeline([]) == {"a": "ran", "b": "ran", "alone": "ran"}
    cores = {own: {int(core) for core in (repository / own).read_text().split()} for own in stages}
    assert cores["alone"] == os.sched_getaffinity(0)
    assert cores["a"] | cores["b"] == cores["alone"] and not cores["a"] & cores["b"]


@two_halves
def test_41_a_stage_that_fails_lets_the_one_beside_it_end(repository: Path, prefect_server: None) -> None:
    (repository / "use.py").write_text("open('failed', 'w'); raise SystemExit('the dog ate the samples')")
    code = """import pathlib, time
while not pathlib.Path("failed").exists():
    time.sleep(0.05)
time.sleep(2)  # in which the flow sees that the other has failed
pathlib.Path("apart.txt").touch()
"""
    (repository / "apart.py").write_text(code)
    graph = GRAPH.replace("python -c \"open('apart.txt', 'w').write('1')\"", "python apart.py")
    (repository / "dvc.yaml").write_text(graph)
    with pytest.raises(pipeline.StageFailedError, match="the dog ate the samples"):
        pipeline.pipeline([])
    assert (repository / "apart.txt").exists()
    assert pipeline.pipeline(["apart"]) == {"apart": "cached"}


def test_41_an_interrupt_of_the_flow_alone_ends_the_stages_that_run(repository: Path, prefect_server: None) -> None:
    names = ("a", "b")[: len(pipeline.halves())]
    stage = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(200)"
    (repository / "stage.py").write_text(stage)
    graph = [f"  {name}: {{cmd: python stage.py {name}, outs: [{name}]}}" for name in names]
    (repository / "dvc.yaml").write_text("stages:\n" + "\n".join(graph))
    # Whoever runs these tests in the background may have them ignore interrupts.
    code = "import signal, sys; from pathlib import Path; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from flows import pipeline; pipeline.ROOT = Path(sys.argv[1])\n"
    server = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()}  # one of its own would take a while to start
    command = [sys.executable, "-c", code + "pipeline.pipeline()", str(repository)]
    run = subprocess.Popen(command, cwd=ROOT, env=server)
    try:
        eventually(lambda: all((repository / name).exists() for name in names), 90)
        stages = [psutil.Process(int((repository / name).read_text())) for name in names]
        run.send_signal(signal.SIGINT)
        assert not psutil.wait_procs(stages, 60)[1]
        assert run.wait(180) != 0
    finally:
        run.kill()
