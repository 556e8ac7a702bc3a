"""Which of users' prompts are worth an annotator's time: those that the training data covers least, and not twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def least_covered(
    candidates_BD: NDArray[np.floating], covered_RD: NDArray[np.floating], count: int, near: float
) -> list[int]:
    """Positions of at most `count` candidates, each the farthest from what is covered and from those chosen before it.

    The greedy core-set of Sener and Savarese (2018) on unit vectors, by cosine; ends where every candidate that is
    left has a similarity of `near` to something covered (infinite: only where none is left).
    """
    if not len(candidates_BD):
        return []
    closest_B = (candidates_BD @ covered_RD.T).max(axis=1) if len(covered_RD) else np.full(len(candidates_BD), -1.0)
    chosen: list[int] = []
    while len(chosen) < count:
        farthest = int(closest_B.argmin())
        if closest_B[farthest] >= near:
            break
        chosen.append(farthest)
        closest_B = np.maximum(closest_B, candidates_BD @ candidates_BD[farthest])
        closest_B[farthest] = np.inf  # never again, even where all that are left are its equals
    return chosen
