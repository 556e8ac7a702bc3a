"""Two processes against one, under every strategy: both lines, with preferences on no, one and all ranks."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from components.artifact import verify
from components.tuning.search import TrialError, training
from tests.components.training.layouts import losses, set_parameters, train, write_project
from tests.conftest import ROOT

STRATEGIES = ("auto", "ddp", "deepspeed_stage_2", "deepspeed_stage_3")
# Of eight pairs, of which a rank takes two each step.
CASES: dict[str, tuple[str, Collection[int]]] = {
    "text": ("text", ()),
    "text, preferences on one rank": ("text", (2,)),
    "text, preferences on all ranks": ("text", range(8)),
    "image": ("image", ()),
}
# Of the first steps, and of all. In bf16 DeepSpeed holds the frozen base in float32, others in bf16: sums are rounded
# otherwise, and Adam's first steps are of one length however small the gradient.
TOLERANCE = {"fp32": (2e-4, 2e-4), "bf16": (2e-2, 3e-1)}


@pytest.fixture(scope="module", params=CASES)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    line, contrasts = CASES[request.param]
    return line, write_project(tmp_path_factory.mktemp("project"), line, contrasts)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def expected(request: pytest.FixtureRequest, project: tuple[str, Path]) -> tuple[str, list[float], float]:
    """A precision, the losses of one process in it, and the held-out loss of what it sealed."""
    return request.param, *result(project, strategy="auto", devices=1, precision=request.param)


def result(project: tuple[str, Path], **parameters: object) -> tuple[list[float], float]:
    line, folder = project
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    done = train(folder, line, **parameters)
    assert done.returncode == 0, done.stderr[-3000:]
    return losses(folder, line), verify(folder / "artifacts" / line / "checkpoint").metrics["validation_loss"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_1_and_2_two_processes_train_to_the_losses_of_one(
    project: tuple[str, Path], expected: tuple[str, list[float], float], strategy: str
) -> None:
    precision, curve, held_out = expected
    own, own_held_out = result(project, strategy=strategy, devices=2, precision=precision)
    first, later = TOLERANCE[precision]
    assert own[:3] == pytest.approx(curve[:3], abs=first)
    assert own == pytest.approx(curve, abs=later)
    assert own_held_out == pytest.approx(held_out, abs=later)


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize("case", ["text, preferences on one rank", "image"])
def test_1_two_killed_processes_go_on_where_they_stopped(case: str, strategy: str, tmp_path: Path) -> None:
    line, contrasts = CASES[case]
    project = write_project(tmp_path, line, contrasts)
    parameters = {"strategy": strategy, "devices": 2}
    killed = train(project, line, module="tests.components.training.killed", **parameters)
    assert killed.returncode != 0 and not (project / "metrics" / line / "train.csv").exists()
    states = [path.name for path in (project / ".atelier").rglob("step-*.ckpt")]
    assert states == ["step-00000003.ckpt"]
    resumed = train(project, line, **parameters)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    own = losses(project, line)
    shutil.rmtree(project / "artifacts")
    whole = train(project, line, **parameters)
    assert whole.returncode == 0 and own == losses(project, line)


@pytest.mark.parametrize("line", ["text", "image"])
def test_1_a_trial_of_a_search_trains_on_two_devices(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path, line)
    (project / "components").mkdir(exist_ok=True)  # without code: what trains is this checkout's
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    set_parameters(project, line, strategy="deepspeed_stage_2", devices=2)
    objective = training(line, 3, project, project / "params.yaml", lambda metrics: metrics["validation_loss"])
    assert objective({"learning_rate": 0.001}) > 0
    with pytest.raises(TrialError, match="the loss is not a number at step"):
        objective({"learning_rate": 1e30})
