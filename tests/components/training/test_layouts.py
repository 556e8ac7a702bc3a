"""Two processes train as one does: real modules of both lines, sharded, by the command and the parameters of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifact import verify
from components.config import Strategy
from tests.components.training.layouts import losses, set_parameters, train, train_here, write_project


def alone(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], float]:
    """The losses of one process and the held-out loss of what it sealed."""
    set_parameters(folder, line, devices=1, strategy="auto")
    train_here(folder, line, monkeypatch)
    return losses(folder, line), verify(folder / "artifacts" / line / "checkpoint").metrics["validation_loss"]


# Preferences in two of eight pairs: steps of four samples hold them on no rank, on one and on both.
@pytest.mark.parametrize(("line", "strategy"), [("text", "deepspeed_stage_3"), ("image", "ddp")])
def test_1_and_2_two_processes_train_to_the_losses_of_one(
    line: str, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path, line, contrasts=(2, 5))
    expected, held_out = alone(project, line, monkeypatch)
    (project / "artifacts").rename(tmp_path / "of-one")
    done = train(project, line, strategy=strategy, devices=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(project, line) == pytest.approx(expected, abs=2e-4)
    checkpoint = verify(project / "artifacts" / line / "checkpoint")
    assert checkpoint.metrics["validation_loss"] == pytest.approx(held_out, abs=2e-4)
    assert (checkpoint.parameters["strategy"], checkpoint.parameters["devices"]) == (strategy, 2)
