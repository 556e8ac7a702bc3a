"""Drift of each line in a window: its prompts, outputs and service, each against the right reference.

Training data is a reference only if its digest is the one that the deployment's artifact names as its parent; another
data version that happens to lie on this machine is none.

Prompts are compared with those of the training data of the deployment that served most of the line's requests, or,
where that is not on this machine, with the deployment's first traffic; outputs, latency, length and feedback always
with the latter: what a model writes is not what its training data holds, on the first day already. Other deployments'
requests (a canary's) are left to the experiment's report.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.config import Monitor
from components.events.read import get_deployment
from components.events.schema import Deployment
from components.events.window import first_request, reactions_to, sample
from components.lineage import folder_of, manifest_of
from components.paths import ARTIFACTS
from monitoring.columns import TextReference, once_per_user, service
from monitoring.drift import Comparison, Drift, compare, keep
from monitoring.embedding import Embed
from monitoring.severity import Past, grade
from monitoring.traffic import sum_by

Row = dict[str, Any]


@dataclass(frozen=True)
class TrainingTexts:
    """Prompts of the training data, the group of samples that each belongs to, and `against`, which names the data.

    Not what a model shall write to them: no model writes that word for word, and no output would be like it.
    """

    prompts: list[str]
    groups: list[str]
    against: str


@dataclass(frozen=True)
class Served:
    """What one deployment of a line served in the window, and its reference; `reactions` are to rows of both."""

    line: str
    deployment: str
    rows: Sequence[Row]
    earlier: Sequence[Row]
    reactions: Sequence[Row]
    training: TrainingTexts | None


def line_drifts(
    url: str,
    monitor: Monitor,
    window: tuple[float, float],
    counts: Sequence[Row],
    samples: Mapping[str, Sequence[Row]],
    history: Sequence[Past],
    embed: Embed | None,
    folder: Path,
) -> list[Drift]:
    """Every line's drifts, graded; Evidently's snapshots are kept beside the reports, its pages in `folder`."""
    since, until = window
    served = [_served(url, monitor, since, line, counts, rows) for line, rows in samples.items()]
    comparisons = [c for line in served for c in comparisons_of(line, texts_of(line, embed), since, until)]
    graded = grade(compare(comparisons, monitor.min_rows), history, since, monitor.persistence)
    workspace = Path(monitor.report) / "evidently"
    return [keep(c, drift, folder, workspace, until) for c, drift in zip(comparisons, graded, strict=True)]


def _served(url: str, monitor: Monitor, since: float, line: str, counts: Sequence[Row], rows: Sequence[Row]) -> Served:
    deployment = sum_by([row for row in counts if row["line"] == line], "deployment").most_common(1)[0][0]
    recorded, size = get_deployment(url, deployment), monitor.sample_rows
    mine = [row for row in rows if row["deployment"] == deployment][:size]
    minutes = monitor.reference_minutes
    earlier = first_traffic(url, line, deployment, recorded, before=since, minutes=minutes, rows=size)
    reactions = reactions_to(url, [row["request_id"] for row in (*mine, *earlier)])
    return Served(line, deployment, mine, earlier, reactions, training_texts(line, recorded, size))


def training_texts(
    line: str, deployment: Deployment | None, rows: int, artifacts: Path = ARTIFACTS
) -> TrainingTexts | None:
    """At most `rows` training samples of what `deployment` serves; None where they are not on this machine."""
    if deployment is None:
        return None
    package = manifest_of(artifacts / line / "package", deployment.digest)
    digest = package.parents.get("data") if package else None
    folder = folder_of("data", line, artifacts)
    if digest is None or manifest_of(folder, digest) is None:
        return None
    chosen = heapq.nsmallest(rows, hashed_samples(folder / "train.parquet"))
    prompts, groups = [prompt for _, prompt, _ in chosen], [group for _, _, group in chosen]
    return TrainingTexts(prompts, groups, f"the training data ({digest[:8]})")


def hashed_samples(path: Path) -> Iterator[tuple[str, str, str]]:
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


def texts_of(served: Served, embed: Embed | None) -> dict[str, TextReference]:
    """The reference of a line's prompts, and of the text line's outputs; events do not hold pictures."""
    earlier, training = once_per_user(served.earlier), served.training
    prompts = (
        TextReference(training.prompts, embed, training.groups)
        if training
        else TextReference([row["prompt"] for row in earlier], embed)
    )
    outputs = {"outputs": TextReference([row["output"] for row in earlier], embed)} if served.line == "text" else {}
    return {"prompts": prompts, **outputs}


def comparisons_of(served: Served, texts: Mapping[str, TextReference], since: float, until: float) -> list[Comparison]:
    """Prompts, outputs and service of one line."""
    first = f"the first traffic of {served.deployment}"
    now, against = once_per_user(served.rows), {"prompts": served.training.against if served.training else first}
    comparisons = [
        Comparison(
            f"{served.line} {what}",
            against.get(what, first),
            known.columns,
            known.measure([row[what.removesuffix("s")] for row in now]),
        )
        for what, known in texts.items()
    ]
    columns = service(served.earlier, served.reactions, since), service(served.rows, served.reactions, until)
    return [*comparisons, Comparison(f"{served.line} service", first, *columns)]
