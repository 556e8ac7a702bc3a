"""Our loop and a plain one take the same steps in turn, and each step is timed apart."""

from __future__ import annotations

from time import sleep
from typing import Any

import torch

from tests.bench.loops import Loop, by_hand, take_turns
from tests.components.training.tiny import COUNT, Tiny, config, samples


def test_both_loops_are_given_the_same_batches_and_timed_apart() -> None:
    x, y = samples()
    seen: list[list[int]] = []

    def batch_of(indices: list[int], step: list[int]) -> Any:
        seen.append(indices)
        return x[indices], y[indices]

    settings = config(max_steps=9, checkpoint_every=9)
    given: list[Any] = []

    def plain(batch: Any) -> None:
        given.append(batch)
        sleep(0.02)

    seconds = take_turns(Loop("tiny", Tiny(), COUNT, batch_of, settings, {"plain": plain}))
    assert len(seen) == 9 and len(given) == 7
    assert all(torch.equal(batch[0], x[indices]) for batch, indices in zip(given, seen, strict=False))
    assert len(seconds["ours"]) == len(seconds["plain"]) == 6
    assert min(seconds["plain"]) >= 0.02 and all(ours > 0 for ours in seconds["ours"])


def test_a_plain_step_sums_the_gradients_of_its_parts() -> None:
    x, y = samples()
    weights = []
    for batch in [(x, y)], [[(x[:5], y[:5]), (x[5:], y[5:])]]:
        torch.manual_seed(0)
        network = torch.nn.Linear(4, 2)
        step = by_hand(network, 0.01, lambda part, net=network: (net(part[0]) - part[1]).square().mean(), 0.0, None)
        step(*batch) if isinstance(batch[0], list) else step(batch)
        weights.append(network.weight.detach())
    assert torch.allclose(*weights, atol=1e-3)
