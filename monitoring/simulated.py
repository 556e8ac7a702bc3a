"""What a simulated audience leaves behind: which responses were its own, so that reports say so, and some pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.artifact import write_text


@dataclass(frozen=True)
class SimulatedPicture:
    """A picture the simulated audience was served: PNG beside the record, its prompt, the response's id."""

    file: str
    prompt: str
    request_id: str


@dataclass(frozen=True)
class AudienceRun:
    """One run of the simulated audience; times in epoch seconds, ids of requests that were answered and that failed."""

    seed: int
    users: int
    started: float
    ended: float
    drift: float
    request_ids: list[str]
    failed_ids: list[str]
    failed: int
    likes: int
    dislikes: int
    pictures: list[SimulatedPicture]


def audience_folder(report: str) -> Path:
    """Where runs are kept: beside the reports' folder."""
    return Path(report).parent / "audience"


def write_run(folder: Path, run: AudienceRun) -> Path:
    path = folder / f"{int(run.started)}-{run.seed}.json"
    write_text(path, json.dumps(asdict(run), indent=1))
    return path


def read_runs(folder: Path, since: float, until: float) -> list[AudienceRun]:
    """Runs that overlap [since, until), oldest first."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    runs = [AudienceRun(**d | {"pictures": [SimulatedPicture(**p) for p in d["pictures"]]}) for d in documents]
    return [run for run in runs if run.started < until and run.ended >= since]
