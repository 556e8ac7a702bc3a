"""Hours follow from floating-point operations, tokens a second from bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.planner import machine
from components.planner.memory import Training
from components.planner.shape import read
from components.planner.speed import GPUS, step_flops, tokens_per_second, training_hours
from tests.components.planner.test_shape import CONFIG, headers

SHAPE = read(CONFIG, headers())
FULL = Training("full", 8, "fp32", 16, 64)


def test_every_weight_costs_six_operations_a_token_and_an_adapter_a_third_less() -> None:
    tokens = FULL.batch * FULL.length
    every = step_flops(SHAPE, FULL)
    assert every / (6 * SHAPE.parameters * tokens) == pytest.approx(1, abs=0.05)  # attention's scores come on top
    assert step_flops(SHAPE, replace(FULL, trained="lora")) / every == pytest.approx(2 / 3, abs=0.05)
    assert step_flops(SHAPE, replace(FULL, checkpointing=True)) / every == pytest.approx(4 / 3, abs=0.08)


def test_hours_are_a_range_that_halves_with_two_devices() -> None:
    least, most = training_hours(SHAPE, FULL, 1000, GPUS[0])
    assert 0 < least < most
    assert training_hours(SHAPE, replace(FULL, devices=2), 1000, GPUS[0]) == (least / 2, most / 2)


def test_a_faster_memory_writes_faster() -> None:
    assert tokens_per_second(1e9, GPUS[0]) > tokens_per_second(1e9, GPUS[2])


def test_the_probe_measures_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SECONDS", 0.05)
    here = machine.probe("fp32")
    assert here.flops["fp32"] > 1e9 and here.bandwidth > 1e8 and 0 < here.memory < 1e14
