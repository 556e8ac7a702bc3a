"""The ops report: one self-contained HTML page and a JSON summary of what the service did in a window of time."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.artifact import write_text
from components.config import Params, load
from components.events import window
from components.events.read import deployments
from components.events.schema import OTHER
from components.experiments.statistics import Analysis
from components.paths import IMAGE_PACKAGE
from components.stage import run
from monitoring import charts, history, page
from monitoring.advice import Advice, advise
from monitoring.columns import once_per_user
from monitoring.deployments import Answered, answered
from monitoring.drift import Drift, Severity
from monitoring.embedding import load_embed
from monitoring.experiments import ExperimentReport, in_force, report_on
from monitoring.line_drift import line_drifts
from monitoring.severity import worst
from monitoring.simulated import AudienceRun, audience_folder, read_runs
from monitoring.traffic import SLICES, Bucket, LineTraffic, Row, by_line, lines_of, timeline

PICTURES = 12
SAMPLE = 10_000  # requests of a line that percentiles are computed from: the 99th is then exact to 0.2 percentiles
REPEATS = 0.1  # share of requests that repeat themselves from which it is worth a word
CLOCK_S = 60.0  # clocks of well-kept machines differ by less


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
    severity: Severity
    drift: list[Drift]
    notes: list[str]
    experiments: list[ExperimentReport]
    deployments: list[Row]
    advice: list[Advice]


def write_report(params: Params, until: float, window_minutes: int | None = None) -> Path:
    """Write `<monitor.report>/<time>/report.html` and `report.json` for the window before `until`; returns the page.

    Evidently's pages of what moved lie beside it, its snapshots in `<monitor.report>/evidently`, and the runs that are
    kept are listed in `<monitor.report>/index.html`. Raises `DatabaseError` where events cannot be read.
    """
    since, reports = until - 60 * (window_minutes or params.monitor.window_minutes), Path(params.monitor.report)
    name = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(until))
    audience = audience_folder(params.monitor.report)
    runs = read_runs(audience, since, until)
    kept = history.load(reports)
    history.remove(reports, [run for run in kept if run.folder == name])  # the same window again replaces its report
    earlier = [run for run in kept if run.folder != name]
    summary = summarise(params, since, until, runs, reports / name, earlier)
    write_text(reports / name / "report.json", json.dumps(asdict(summary), indent=1, default=str))
    written = page.write(reports / name / "report.html", lambda: render(summary, pictures_of(audience, runs)))
    history.remove(reports, history.load(reports)[params.monitor.keep :])
    history.write_index(reports, params.monitor.persistence)
    return written


def render(summary: Summary, pictures: Sequence[tuple[str, str]]) -> str:
    """The page of a window, with `pictures_of` it."""
    return page.render("report.html", s=summary, pictures=pictures, charts=charts_of(summary), interval=interval_of)


def summarise(
    params: Params,
    since: float,
    until: float,
    runs: Sequence[AudienceRun],
    folder: Path,
    earlier: Sequence[history.Run],
) -> Summary:
    """Read the window's counts and samples and compute everything; Evidently's pages go into `folder`."""
    url = params.events.url
    first, width, counts = window.counts(url, since, until, SLICES)
    samples = {line: window.sample(url, since, until, line=line, rows=SAMPLE) for line in lines_of(counts)}
    simulated = window.count_accepted(
        url, sorted({i for a_run in runs for i in (*a_run.request_ids, *a_run.failed_ids)}), since, until
    )
    feedback, liked = window.reactions(url, since, until)
    traffic = by_line(counts, samples, until)
    past = [run.past for run in earlier if run.past.until < until]
    embed = load_embed(IMAGE_PACKAGE)
    drifts = line_drifts(url, params.monitor, (since, until), counts, samples, past, embed, folder)
    notes = notes_on(counts, samples, window.later(url, time.time() + CLOCK_S), len(earlier) - len(past))
    listed = params.feedback.segments.items()
    segments = [f"{key}={value}" for key, values in listed for value in (*values, OTHER)]
    experiments = [report_on(url, versions, until, segments) for versions in in_force(url)]
    return Summary(
        since=since,
        until=until,
        requests=sum(line.requests for line in traffic),
        simulated=simulated,
        simulated_runs=len(runs),
        feedback=feedback,
        liked=liked,
        traffic=traffic,
        timeline=timeline(first, width, counts, samples, until),
        severity=worst(drifts),
        drift=drifts,
        notes=notes,
        experiments=experiments,
        deployments=served_by(answered(url, since, until), deployments(url)),
        advice=advise(traffic, drifts, [report.analysis for report in experiments], bool(simulated)),
    )


def notes_on(counts: Sequence[Row], samples: Mapping[str, list[Row]], ahead: int, later_runs: int) -> list[str]:
    """What is odd about the events themselves, in words: clocks that jumped, clients that repeat themselves."""
    notes = []
    for line, rows in samples.items():
        ok, different = sum(row["outcome"] == "ok" for row in rows), len(once_per_user(rows))
        if different < (1 - REPEATS) * ok:
            message = f"{ok - different} of {ok} {line} requests looked at repeat a prompt of the same user"
            notes.append(f"{message}: each counts once for drift of prompts and outputs. Does a client send twice?")
    backwards = sum(row["backwards"] for row in counts)
    if backwards:
        notes.append(f"{backwards} requests ended before they were accepted: a gateway's clock was set back meanwhile.")
    if ahead:
        notes.append(f"{ahead} requests are dated in the future and in no window yet: a gateway's clock runs ahead.")
    if later_runs:
        message = f"{later_runs} earlier reports are of later windows than this one and count for nothing here"
        notes.append(f"{message}: this machine's clock was set back, or an old window was asked for.")
    return notes


def served_by(answers: Sequence[Answered], deployments: Sequence[Row]) -> list[Row]:
    """Each deployment that answered in the window, with what it answered; what is not on record says so."""
    known = {row["deployment"]: row for row in deployments}
    unknown = {"digest": "not recorded", "model": "?", "version": "?", "bento": "?", "time": None}
    return [
        unknown | known.get(one.deployment, {}) | asdict(one) | {"cost_of_thousand": one.cost_of_thousand}
        for one in answers
    ]


def pictures_of(folder: Path, runs: Sequence[AudienceRun]) -> list[tuple[str, str]]:
    """The newest pictures the simulated audience was served, in the order it got them, not chosen: each one's PNG as
    base64, and its prompt."""
    kept = [picture for a_run in runs for picture in a_run.pictures if (folder / picture.file).is_file()][-PICTURES:]
    return [(base64.b64encode((folder / picture.file).read_bytes()).decode(), picture.prompt) for picture in kept]


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
    return {
        "requests": charts.stacked_bars(starts, counts, "requests over time"),
        "latency": charts.lines(starts, latency, " s", "latency over time"),
    }


def interval_of(result: Analysis) -> Markup:
    """The leading comparison of an experiment."""
    names = f"{result.control} better", f"{result.treatment} better"
    return charts.interval(*result.interval, result.difference, *names)


def main() -> None:
    """Write the report of the window that ends now and print its path."""
    print(write_report(load(), time.time()))


if __name__ == "__main__":
    run(main)
