"""What is watched for drift in a window: each line's prompts, outputs and service, against the right reference.

Prompts are compared with those of the training data of the deployment that served most of the line's requests, or,
where that is not on this machine, with the deployment's first traffic; outputs, latency, length and feedback always
with the latter: what a model writes is not what its training data holds, on the first day already. Other deployments'
requests (a canary's) are left to the experiment's report.
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
from monitoring.columns import TextReference, once_per_user, service
from monitoring.drift import Comparison, Drift, compare, keep
from monitoring.embedding import Embed
from monitoring.reference import Texts, first_traffic
from monitoring.reference import training as training_of
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
    comparisons = [c for one in served for c in comparisons_of(one, texts_of(one, embed), since, until)]
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
    return Served(line, deployment, mine, earlier, reactions, training_of(line, recorded, size))


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
    found = [
        Comparison(
            f"{served.line} {what}",
            against.get(what, first),
            known.columns,
            known.measure([row[what.removesuffix("s")] for row in now]),
        )
        for what, known in texts.items()
    ]
    columns = service(served.earlier, served.reactions, since), service(served.rows, served.reactions, until)
    return [*found, Comparison(f"{served.line} service", first, *columns)]
