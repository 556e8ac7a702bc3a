"""How a strategy is named and made; that each trains alike is `test_layouts.py`'s and `drill_layouts.py`'s."""

from __future__ import annotations

import torch
from lightning.pytorch.strategies import DDPStrategy

from components.training import strategy


def test_one_device_leaves_the_choice_to_lightning_and_parameters_as_they_are() -> None:
    assert strategy.build("auto", 4) == "auto"
    assert isinstance(strategy.build("ddp", 4), DDPStrategy)
    parameter = torch.nn.Parameter(torch.ones(2))
    with strategy.gathered([parameter]):
        assert parameter.tolist() == [1, 1]
