"""The ops report: one self-contained HTML page and a JSON summary of what the service did in a window of time."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.artifact import write_text
from components.config import Params, load
from components.events.read import read, requests
from components.experiments.statistics import Analysis
from components.stage import StageError, run
from monitoring import charts
from monitoring.advice import Advice, advise
from monitoring.drift import Drift, number_drift, text_drift
from monitoring.embedding import Embed, load_embed
from monitoring.outcomes import experiment_result
from monitoring.simulated import AudienceRun, audience_folder, read_runs
from monitoring.traffic import Bucket, LineTraffic, Row, by_line, lines_of, timeline

TEMPLATES = Path(__file__).parent / "templates"
PICTURES = 12


@dataclass(frozen=True)
class Picture:
    """A generated picture, its PNG as base64, and the words it was asked for."""

    png: str
    prompt: str
    request_id: str


@dataclass(frozen=True)
class Summary:
    """All that the page says, as data; times in epoch seconds, latencies in seconds. `simulated` counts requests."""

    since: float
    until: float
    requests: int
    simulated: int
    simulated_runs: int
    feedback: int
    liked: int
    traffic: list[LineTraffic]
    timeline: list[Bucket]
    drift: list[Drift]
    experiment: Analysis
    deployments: list[Row]
    advice: list[Advice]


def write_report(params: Params, until: float, window_minutes: int | None = None) -> Path:
    """Write `<monitor.report>/<time>/report.html` and `report.json` for the window before `until`; returns the page.

    Evidently's detailed pages lie beside it. Raises `EventStoreError` where there is no events database.
    """
    since = until - 60 * (window_minutes or params.monitor.window_minutes)
    folder = Path(params.monitor.report) / time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(until))
    folder.mkdir(parents=True, exist_ok=True)
    runs = read_runs(audience_folder(params.monitor.report), since, until)
    summary = summarise(params, since, until, runs, folder)
    page = render(summary, pictures_of(audience_folder(params.monitor.report), runs))
    write_text(folder / "report.json", json.dumps(asdict(summary), indent=1, default=str))
    write_text(folder / "report.html", page)
    return folder / "report.html"


def summarise(params: Params, since: float, until: float, runs: Sequence[AudienceRun], folder: Path) -> Summary:
    """Read the window's events and compute everything; Evidently's pages go into `folder`."""
    url = params.events.url
    rows = requests(url, since, until)
    feedback = read(url, "feedback", 0.0, until)
    mine = {row["request_id"] for row in rows}
    reactions = [row for row in feedback if row["request_id"] in mine and row["kind"] == "like"]
    simulated = {identifier for a_run in runs for identifier in (*a_run.request_ids, *a_run.failed_ids)} & mine
    traffic = by_line(rows)
    drifts = drift_of(params, rows, requests(url, 2 * since - until, since), folder)
    experiment = experiment_result(params.experiment, requests(url, 0.0, until), feedback, until)
    return Summary(
        since=since,
        until=until,
        requests=len(rows),
        simulated=len(simulated),
        simulated_runs=len(runs),
        feedback=len(reactions),
        liked=sum(row["value"] > 0 for row in reactions),
        traffic=traffic,
        timeline=timeline(rows),
        drift=drifts,
        experiment=experiment,
        deployments=served_by(rows, read(url, "deployments")),
        advice=advise(traffic, drifts, experiment, bool(simulated)),
    )


def served_by(rows: Sequence[Row], deployments: Sequence[Row]) -> list[Row]:
    """Each deployment that answered in the window, with its requests; what is not on record says so."""
    known = {row["deployment"]: row for row in deployments}
    counts = pd.Series([row["deployment"] for row in rows], dtype=object).value_counts()
    unknown = {"line": "?", "digest": "not recorded", "model": "?", "version": "?", "bento": "?", "time": None}
    return [
        known.get(str(name), unknown | {"deployment": str(name)}) | {"requests": int(count)}
        for name, count in counts.items()
    ]


def drift_of(params: Params, rows: Sequence[Row], earlier: Sequence[Row], folder: Path) -> list[Drift]:
    """Prompts and outputs against the training data, latencies against earlier traffic, of every line with traffic."""
    embed = load_embed(Path("artifacts/image/package"))
    found: list[Drift] = []
    for line in lines_of(rows):
        ok = [row for row in rows if row["line"] == line and row["outcome"] == "ok"]
        prompts, outputs = training_texts(Path("data") / line / "split" / "train.parquet")
        found.append(_texts(params, f"{line} prompts", prompts, [row["prompt"] for row in ok], embed, folder))
        if line == "text":  # a picture leaves no words in the events; the image line's quality is the evaluation's task
            found.append(_texts(params, "text outputs", outputs, [row["output"] for row in ok], embed, folder))
        before = [row for row in earlier if row["line"] == line and row["outcome"] == "ok"]
        found.append(_latency(params, line, ok, before))
    return found


def training_texts(path: Path) -> tuple[list[str], list[str]]:
    """(prompts, outputs) of a line's training samples; both empty where the data is not on this machine."""
    if not path.is_file():
        return [], []
    frame = pd.read_parquet(path, columns=["text", "meta"])
    completions = [json.loads(meta).get("completion") for meta in frame["meta"]]
    return list(frame["text"]), [completion for completion in completions if completion]


def _texts(
    params: Params, name: str, reference: list[str], current: list[str], embed: Embed | None, folder: Path
) -> Drift:
    return text_drift(
        name,
        reference,
        current,
        embed=embed,
        min_rows=params.monitor.min_rows,
        drift_share=params.monitor.drift_share,
        detail=folder / f"drift-{name.replace(' ', '-')}.html",
    )


def _latency(params: Params, line: str, now: Sequence[Row], before: Sequence[Row]) -> Drift:
    """Against the window before, or, where that saw too little, the later half of this one against its first half."""
    against = "the window before"
    if len(before) < params.monitor.min_rows:
        before, now, against = now[: len(now) // 2], now[len(now) // 2 :], "the first half of the window"
    name, minimum, share = f"{line} latency", params.monitor.min_rows, params.monitor.drift_share
    return number_drift(name, _seconds(before), _seconds(now), min_rows=minimum, drift_share=share, against=against)


def _seconds(rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame({"latency (s)": [row["latency_s"] for row in rows]}, dtype=float)


def pictures_of(folder: Path, runs: Sequence[AudienceRun]) -> list[Picture]:
    """The newest pictures the simulated audience was served, in the order it got them: not chosen."""
    kept = [picture for a_run in runs for picture in a_run.pictures if (folder / picture.file).is_file()][-PICTURES:]
    encoded = [base64.b64encode((folder / picture.file).read_bytes()).decode() for picture in kept]
    return [Picture(png, p.prompt, p.request_id) for png, p in zip(encoded, kept, strict=True)]


def render(summary: Summary, pictures: Sequence[Picture]) -> str:
    """The page. Everything from outside (prompts, names) is escaped by the template engine."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"clock": clock, "seconds": seconds, "percent": percent}
    return environment.get_template("report.html").render(s=summary, pictures=pictures, charts=charts_of(summary))


def charts_of(summary: Summary) -> dict[str, Any]:
    """Every chart of the page by name; empty where there was no traffic."""
    if not summary.timeline:
        return {}
    buckets, names = summary.timeline, [line.line for line in summary.traffic]
    starts = [bucket.start for bucket in buckets]
    counts = {name: [float(bucket.requests.get(name, 0)) for bucket in buckets] for name in names}
    latency: dict[str, list[float | None]] = {}
    for name in names:
        latency[f"{name} p50"] = [bucket.p50.get(name) for bucket in buckets]
        latency[f"{name} p95"] = [bucket.p95.get(name) for bucket in buckets]
    result = summary.experiment
    return {
        "requests": charts.stacked_bars(starts, counts, "requests over time"),
        "latency": charts.lines(starts, latency, " s", "latency over time"),
        "interval": charts.interval(
            *result.interval, result.difference, f"{result.control} better", f"{result.treatment} better"
        ),
    }


def clock(epoch: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch)) if epoch is not None else "–"


def seconds(value: float | None) -> str:
    """Milliseconds below one second, seconds above."""
    if value is None:
        return "–"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def main() -> None:
    """Write the report of the window that ends now and print its path."""
    params = load()
    try:
        print(write_report(params, time.time()))
    except RuntimeError as error:
        raise StageError(str(error)) from error


if __name__ == "__main__":
    run(main)
