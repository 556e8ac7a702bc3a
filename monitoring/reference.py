"""What drift is measured against: the data a deployment was trained on, and the deployment's own first traffic.

Training data counts only if its digest is the one that the deployment's artifact names as its parent; another data
version that happens to lie on this machine is no reference.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.events.schema import Deployment
from components.events.window import first_request, sample
from components.lineage import folder_of, identify
from components.paths import ARTIFACTS

Row = dict[str, Any]


@dataclass(frozen=True)
class Texts:
    """Prompts of the training data, the group of samples that each belongs to, and `against`, which names the data.

    Not what a model shall write to them: no model writes that word for word, and no output would be like it.
    """

    prompts: list[str]
    groups: list[str]
    against: str


def training(line: str, deployment: Deployment | None, rows: int, artifacts: Path = ARTIFACTS) -> Texts | None:
    """At most `rows` training samples of what `deployment` serves; None where they are not on this machine."""
    if deployment is None:
        return None
    package = identify(artifacts / line / "package", deployment.digest)["manifest"]
    digest = package.parents.get("data") if package else None
    folder = folder_of("data", line, artifacts)
    if digest is None or identify(folder, digest)["manifest"] is None:
        return None
    chosen = heapq.nsmallest(rows, samples(folder / "train.parquet"))
    prompts, groups = [prompt for _, prompt, _ in chosen], [group for _, _, group in chosen]
    return Texts(prompts, groups, f"the training data ({digest[:8]})")


def samples(path: Path) -> Iterator[tuple[str, str, str]]:
    """(hash of the id, prompt, group) of every sample, a batch in memory at a time."""
    for batch in pq.ParquetFile(path).iter_batches(columns=["id", "text", "meta"]):
        for row in batch.to_pylist():
            group = json.loads(row["meta"] or "{}").get("split_group") or row["id"]
            yield hashlib.md5(row["id"].encode(), usedforsecurity=False).hexdigest(), row["text"], group


def first_traffic(
    url: str, line: str, deployment: str, recorded: Deployment | None, *, before: float, minutes: int, rows: int
) -> list[Row]:
    """A sample of the deployment's first `minutes` of traffic, or of as much of that as came before `before`."""
    start = first_request(url, deployment, recorded.time if recorded else 0.0)
    if start is None or start >= before:
        return []
    return sample(url, start, min(start + 60 * minutes, before), line=line, rows=rows, deployment=deployment)
