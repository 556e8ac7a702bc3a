"""What is watched for drift in a window: each line's prompts, outputs and service, against the right reference.

Prompts and outputs are compared with the training data of the deployment that served most of the line's requests, or,
where that is not on this machine, with the deployment's first traffic; latency, length and feedback always with the
latter. Other deployments' requests (a canary's) are left to the experiment's report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config import Monitor
from components.events.read import get_deployment
from components.events.window import reactions_to
from monitoring.columns import once_per_user, service, texts
from monitoring.drift import Comparison, Drift, compare, keep
from monitoring.embedding import Embed
from monitoring.reference import Texts, first_traffic, training
from monitoring.severity import Past, grade

Row = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """What one deployment of a line served in the window, and its reference; `reactions` are to rows of both."""

    line: str
    deployment: str
    rows: Sequence[Row]
    earlier: Sequence[Row]
    reactions: Sequence[Row]
    training: Texts | None


def watch(
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
    comparisons = [c for one in served for c in comparisons_of(one, since, until, embed)]
    graded = grade(compare(comparisons, monitor.min_rows), history, since, monitor.persistence)
    workspace = Path(monitor.report) / "evidently"
    return [keep(c, drift, folder, workspace, until) for c, drift in zip(comparisons, graded, strict=True)]


def _served(url: str, monitor: Monitor, since: float, line: str, counts: Sequence[Row], rows: Sequence[Row]) -> Served:
    served: Counter[str] = Counter()
    for row in counts:
        if row["line"] == line:
            served[row["deployment"]] += row["requests"]
    deployment = served.most_common(1)[0][0]
    recorded, size = get_deployment(url, deployment), monitor.sample_rows
    mine = [row for row in rows if row["deployment"] == deployment][:size]
    minutes = monitor.reference_minutes
    earlier = first_traffic(url, line, deployment, recorded, before=since, minutes=minutes, rows=size)
    reactions = reactions_to(url, [row["request_id"] for row in (*mine, *earlier)])
    return Served(line, deployment, mine, earlier, reactions, training(line, recorded, size))


def comparisons_of(served: Served, since: float, until: float, embed: Embed | None) -> list[Comparison]:
    """Prompts, outputs (of the text line: events do not hold pictures) and service of one line."""
    line, against = served.line, f"the first traffic of {served.deployment}"
    now, before = once_per_user(served.rows), once_per_user(served.earlier)
    reference = served.training or Texts([r["prompt"] for r in before], [r["output"] for r in before], against)
    pairs = {"prompts": (reference.prompts, [row["prompt"] for row in now])}
    if line == "text":
        pairs["outputs"] = (reference.outputs, [row["output"] for row in now])
    found = [Comparison(f"{line} {what}", reference.against, *texts(*pair, embed)) for what, pair in pairs.items()]
    columns = service(served.earlier, served.reactions, since), service(served.rows, served.reactions, until)
    return [*found, Comparison(f"{line} service", against, *columns)]
