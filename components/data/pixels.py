"""Samples' pictures as one tensor, for whatever learns from them or measures them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from components.data.picture import decode
from components.data.sample import Sample


def pixels(samples: Sequence[Sample], size: int) -> Tensor:
    """Pictures of samples as uint8 BCHW, `size` pixels wide and high."""
    decoded = [decode(s.image or b"", size) for s in samples]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
