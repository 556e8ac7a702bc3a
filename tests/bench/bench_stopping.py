"""Real data labelled batch by batch until the stopping rule says enough: `make bench NAME=stopping`.

Beside it, how many labels random choice takes for the same accuracy. The people are SIMULATED: every answer is the true
label, so that a label costs one answer. Prints the figures and writes them to `metrics/annotation/stopping.json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GroupShuffleSplit

from components.annotation import batch
from components.annotation.batch import Pool, probabilities
from components.artifact import canonical, write_text
from tests.bench.annotation_datasets import built_in
from tests.bench.annotation_replay import TEST_SHARE, Dataset
from tests.conftest import ROOT

WORTH, BATCH, SEEDS = 0.01, 20, 3  # as in params.yaml


@dataclass(frozen=True)
class Stopped:
    """After how many labels of the pool it stopped, the chooser's accuracy on rows held out, then and with all, and the
    labels after which random choice is as right in two batches running; None where it never is.
    """

    labels: int
    pool: int
    accuracy: float
    full: float
    random: int | None

    def __str__(self) -> str:
        share = f"{self.labels:,} of {self.pool:,} labels ({self.labels / self.pool:.0%})"
        right = f"{100 * self.accuracy:.1f} % right, with all {100 * self.full:.1f} %"
        return f"stopped after {share}: {right}; random choice takes {self.random or 'more than all'}"


def label_until_enough(data: Dataset, seed: int, size: int) -> Stopped:
    """What the flow does with every batch, without the server: choose, settle, retrain, ask what is left to gain."""
    split = GroupShuffleSplit(1, test_size=TEST_SHARE, random_state=seed)
    rows, test = next(split.split(data.x_ND, groups=data.groups_N))
    x_ND, y_N = data.x_ND[rows], data.y_N[rows]
    names = tuple(map(str, range(int(data.y_N.max()) + 1)))
    ids = tuple(map(str, range(len(rows))))
    pool = Pool(ids, ("",) * len(ids), ids, names)

    def accuracy(labelled: list[int]) -> float:
        found_NC = probabilities(x_ND[labelled], y_N[labelled], data.x_ND[test], len(names), batch.STRENGTH)
        return float(np.mean(found_NC.argmax(1) == data.y_N[test]))

    settled: dict[str, str] = {}
    enough = False
    while not enough and len(settled) < len(ids):
        likely_NC = batch.likely(pool, x_ND, settled, 1.0)
        chosen = batch.choose(pool, x_ND, likely_NC, settled.keys(), size, 0.0)
        settled |= {name: names[y_N[int(name)]] for name in chosen}
        gain = batch.expected_gain(pool, x_ND, settled)
        enough = gain is not None and gain.enough(WORTH)
    reached = accuracy([int(name) for name in settled])
    order: list[int] = np.random.default_rng(seed).permutation(len(ids)).tolist()
    above = [accuracy(order[:count]) >= reached for count in range(size, len(ids), size)]
    held = (size * number for number, both in enumerate(pairwise(above), 1) if all(both))
    return Stopped(len(settled), len(ids), reached, accuracy(order), next(held, None))


@pytest.mark.timeout(3600)
def test_when_labelling_stops(assets: Path) -> None:
    document: dict[str, Any] = {"setting": {"worth": WORTH, "batch": BATCH, "seeds": SEEDS}, "data": {}}
    for data in built_in():
        for seed in range(SEEDS):
            stopped = label_until_enough(data, seed, BATCH)
            print(f"\n{data.name}, seed {seed}: {stopped}", end="", flush=True)
            assert stopped.labels < stopped.pool
            document["data"].setdefault(data.name, []).append(asdict(stopped))
    write_text(ROOT / "metrics/annotation/stopping.json", canonical(document))
