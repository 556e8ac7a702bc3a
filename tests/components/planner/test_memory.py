"""The planner's bytes are those that were measured: in the table of `make bench NAME=models`, and here on tiny ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from components.planner.memory import Training, serving, training
from components.planner.shape import Shape
from components.planner.speed import step_flops
from tests.bench import planner as bench
from tests.conftest import ROOT

ROWS = json.loads((ROOT / "metrics/planner.json").read_bytes())["runs"]
RUN = Training("lora", 8, "bf16", 4, 128)
SHAPE = Shape(**ROWS[0]["shape"])


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['model']} {row['run']['trained']} {row['run']['precision']}"
)
def test_the_peak_is_within_a_tenth_of_what_was_measured(row: dict[str, Any]) -> None:
    planned = training(Shape(**row["shape"]), Training(**row["run"])).peak
    assert planned == pytest.approx(row["in_use"], rel=0.1)
    assert planned == pytest.approx(row["resident"], rel=0.1)


@pytest.mark.parametrize("trained", ["lora", "full"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("padded", [True, False])
def test_activations_are_what_autograd_saves(
    trained: Any, precision: Any, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 4 layers of Qwen3's, whose normed heads Llama has not."""
    monkeypatch.setitem(bench.MODELS, "tiny", ("qwen3", 600, 128, 384, 4, 4, 2))
    run = Training(trained, 8, precision, 4, 64, padded=padded)
    made, shape = bench.build("tiny", run)
    memory = training(shape, run)
    assert memory.activations + memory.logits / 3 == pytest.approx(bench.saved(made), rel=0.05)


def test_checkpointing_keeps_less_and_zero_shares_what_it_says() -> None:
    plain = training(SHAPE, replace(RUN, trained="full"))
    assert training(SHAPE, replace(RUN, trained="full", checkpointing=True)).activations < plain.activations / 3
    two = {"trained": "full", "devices": 2, "batch": 8}
    second, third = (training(SHAPE, replace(RUN, strategy=f"deepspeed_stage_{n}", **two)) for n in (2, 3))
    assert (second.weights, second.optimizer) == (plain.weights, plain.optimizer / 2)
    assert third.weights == plain.weights / 2


def test_a_step_in_parts_keeps_one_at_a_time() -> None:
    whole = replace(RUN, trained="full", batch=8)
    parts = replace(whole, micro=2)
    assert training(SHAPE, parts).activations == training(SHAPE, replace(whole, batch=2)).activations
    assert step_flops(SHAPE, parts) > step_flops(SHAPE, whole) == step_flops(SHAPE, replace(whole, micro=8))


def test_an_int8_export_has_a_byte_for_each_weight_and_int4_half_of_that_in_its_blocks() -> None:
    int8, int4 = serving(SHAPE, "int8"), serving(SHAPE, "int4")
    assert int8.weights == SHAPE.parameters
    assert SHAPE.embedding < int4.weights < int8.weights
    assert int8.token == 2 * SHAPE.layers * SHAPE.kv_heads * 64 * 2  # keys and values, 16 bits each
    assert int8.total(100) == int8.weights + 100 * int8.token
