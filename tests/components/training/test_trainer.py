"""A run is a function of its parameters and data: the same twice, and the same when it was killed in between."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch

from components.stage import StageError
from components.training import trainer
from tests.components.training.tiny import Tiny, config, fit


def same(one: trainer.Fitted, other: trainer.Fitted) -> bool:
    return one.losses == other.losses and all(torch.equal(one.weights[n], other.weights[n]) for n in other.weights)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_killed_run_continues_bitwise_as_if_it_had_not_been(
    tmp_path: Path, precision: str, ema_decay: float | None
) -> None:
    settings = config(precision=precision)
    whole = fit(Tiny(), settings, tmp_path / "whole", ema_decay)
    with pytest.raises(RuntimeError, match="killed"):
        fit(Tiny(dies_at=6), settings, tmp_path / "killed", ema_decay)
    torch.manual_seed(99)  # nothing of the new process' own random state may matter
    resumed = Tiny()
    assert same(fit(resumed, settings, tmp_path / "killed", ema_decay), whole)
    assert [step for step, _ in whole.losses] == list(range(1, 10))


def test_9_the_best_weights_survive_a_kill(tmp_path: Path) -> None:
    start = next(Tiny().parameters()).detach().clone()

    def away(weights: trainer.Weights) -> float:
        """The loss of a model that only gets worse: its first look is its best."""
        return float((next(iter(weights.values())) - start).square().sum())

    whole = fit(Tiny(), config(), tmp_path / "whole", held_out=away)
    with pytest.raises(RuntimeError, match="killed"):
        fit(Tiny(dies_at=6), config(), tmp_path / "killed", held_out=away)
    resumed = fit(Tiny(), config(), tmp_path / "killed", held_out=away)
    assert whole.kept == resumed.kept == 1 and same(whole, resumed)
    assert not same(whole, fit(Tiny(), config(), tmp_path / "last"))


def test_a_resumed_run_does_not_start_over(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        fit(Tiny(dies_at=6), config(), tmp_path)
    with pytest.raises(RuntimeError, match="killed"):
        fit(Tiny(dies_at=5), config(), tmp_path)  # the checkpoint of step 4 is there
    fit(Tiny(dies_at=3), config(), tmp_path)  # a run from the start would die


def test_a_finished_run_gives_its_result_again(tmp_path: Path) -> None:
    first = fit(Tiny(), config(), tmp_path)
    assert same(fit(Tiny(dies_at=0), config(), tmp_path), first)
    trainer.discard(tmp_path)
    assert not tmp_path.exists()


def test_a_checkpoint_is_written_without_a_copy_of_it_in_memory(tmp_path: Path) -> None:
    module = Tiny()
    module.network[0].register_parameter("large", torch.nn.Parameter(torch.zeros(2**20)))
    tracemalloc.start()
    try:
        fit(module, config(max_steps=1), tmp_path, None)
        assert tracemalloc.get_traced_memory()[1] < module.network[0].large.nbytes / 2
    finally:
        tracemalloc.stop()


def test_a_step_in_parts_computes_each_once_and_learns_the_same(tmp_path: Path) -> None:
    passes = []

    class InParts(Tiny):
        def loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            def of_part(rows: slice) -> torch.Tensor:
                passes.append(rows)
                return super(InParts, self).loss((batch[0][rows], batch[1][rows])) / 2

            return self.summed(of_part, (slice(0, 2), slice(2, 4)))

    modules = Tiny(), InParts()
    for module in modules:
        module.network[2].p = 0.0
    whole, parts = (fit(module, config(), tmp_path / str(number)) for number, module in enumerate(modules))
    assert len(passes) == 2 * config().max_steps
    assert all(torch.allclose(whole.weights[name], value, atol=1e-5) for name, value in parts.weights.items())


def test_the_seed_decides_the_result(tmp_path: Path) -> None:
    first = fit(Tiny(), config(), tmp_path / "1")
    assert same(first, fit(Tiny(), config(), tmp_path / "2"))
    assert not same(first, fit(Tiny(), config(seed=4), tmp_path / "3"))


def test_training_learns(tmp_path: Path) -> None:
    losses = [loss for _, loss in fit(Tiny(), config(max_steps=80), tmp_path).losses]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_every_sample_is_seen_once_an_epoch_in_changing_order() -> None:
    steps = [trainer.batch_indices(7, step, 10, 4) for step in range(5)]
    order = [index for step in steps for index in step]
    epochs = [order[:10], order[10:]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert len(trainer.batch_indices(7, 0, 3, 8)) == 8


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [trainer.learning_rate(1.0, step, 200) for step in range(200)]
    assert rates.index(max(rates)) in (3, 4) and max(rates) == 1.0
    assert rates[-1] < 0.01 and rates[100] == pytest.approx(0.51, abs=0.01)
    assert trainer.learning_rate(1.0, 0, 1) == 1.0


def test_other_parameters_or_data_never_share_state() -> None:
    keys = {trainer.state_key(p, d) for p in ({"seed": 1}, {"seed": 2}) for d in ("data", "other")}
    assert len(keys) == 4


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="batch_size 4 is not a multiple of devices 3"):
        fit(Tiny(), config(devices=3), tmp_path)


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    module = Tiny()
    torch.nn.init.constant_(module.network[0].weight, float("nan"))
    with pytest.raises(StageError, match="not a number at step 1"):
        fit(module, config(), tmp_path)


def test_losses_become_a_plottable_file(tmp_path: Path) -> None:
    trainer.write_losses(tmp_path / "metrics" / "train.csv", [(1, 0.5), (2, 0.25)])
    assert (tmp_path / "metrics" / "train.csv").read_text() == "step,loss\n1,0.500000\n2,0.250000\n"
