"""How far two pictures are from each other, in decibels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PEAK = 255.0


def psnr(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB, at most 100 (equal pictures have no noise)."""
    error = np.mean((left.astype(np.float64) - right.astype(np.float64)) ** 2)
    return 100.0 if error == 0 else float(min(100.0, 10 * np.log10(PEAK**2 / error)))
