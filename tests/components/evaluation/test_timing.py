"""Calls are compared in turns, after a warm-up."""

from __future__ import annotations

from components.evaluation.timing import interleaved_medians


def test_calls_take_turns_after_one_warm_up_each() -> None:
    order: list[str] = []
    medians = interleaved_medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert order == ["a", "b"] * 4
    assert medians.keys() == {"a", "b"} and all(seconds >= 0 for seconds in medians.values())
