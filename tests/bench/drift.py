"""What the drift report costs and how far it can be trusted, on SIMULATED events: `make bench NAME=drift`.

Prints tables and writes `metrics/online/drift.json`. First the whole report of a million events in SQLite, in a process
of its own; then windows without any drift, for false alarms, and windows with planted ones, for the delay until "act".
The outputs are what the packaged model writes, and users ask for what its training data has nothing about.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert
from statsmodels.stats.proportion import proportion_confint

from components.artifact import ArtifactError, read_manifest, write_text
from components.config import Line, Monitor, Params, load
from components.events.database import engine_of, migrate
from components.events.ledger import Note
from components.events.read import record_deployment
from components.events.schema import ACCEPTED, FEEDBACK, FINISHED, Deployment
from components.experiments import store, versions
from components.experiments.assignment import Placed, inside, variant_of
from components.paths import ARTIFACTS, IMAGE_PACKAGE, TEXT_PACKAGE, TEXT_SPLIT
from components.runtimes.base import TextRequest
from components.runtimes.text import load_text
from components.stage import StageError, run
from monitoring.drift import Drift, compare
from monitoring.embedding import Embed, load_embed
from monitoring.line_drift import Served, TrainingTexts, comparisons_of, hashed_samples, texts_of
from monitoring.report import write_report
from monitoring.severity import Past, grade, worst
from tests.bench.synthetic import KINDS, Pair, Planted, Row, requests
from tests.bench.timing import Load

OUT = Path("metrics/online/drift.json")
DAY, HOUR, NOW, CHUNK = 86_400.0, 3600.0, 1_700_000_000.0, 20_000
# Requests by line and window: each is two events, and 0.6 of them bring a reaction: 10⁶ events in all.
BEFORE: dict[Line, int] = {"text": 75_000, "image": 25_000}
DURING: dict[Line, int] = {"text": 215_000, "image": 70_000}
ROWS, REFERENCE = 300, 2000  # requests of a simulated window, and of the reference's first traffic
PHRASES = 2000  # half of them a deployment's training data, half its users'
DEPLOYMENTS, QUIET = 5, 40  # references drawn anew, and windows without drift against each
REPEATS, LONGEST = 8, 10  # of each planted drift, and after how many windows it counts as missed


@dataclass(frozen=True)
class Phrase:
    """A training phrase, what the model writes to it, and the group of samples that it belongs to."""

    prompt: str
    output: str
    group: str


def written(prompts: Sequence[str]) -> list[str]:
    """What the packaged model writes to each phrase with the service's own settings."""
    serving = load().serving
    runtime = load_text(TEXT_PACKAGE)
    settings = serving.text_max_new_tokens, serving.text_temperature, serving.text_top_p
    try:
        asked = [TextRequest((("user", prompt),), *settings, seed) for seed, prompt in enumerate(prompts)]
        return [result.text for result in runtime.generate(asked)]
    finally:
        runtime.close()


def fill(url: str, pairs: Sequence[Pair]) -> int:
    """Write the events of a day and of the hour after it; returns how many."""
    engine, written = engine_of(url, create=True), 0
    migrate(engine)
    store.apply(engine, load().experiments, Note("bench", "part of the cost"))
    running = [version.placed for version in versions.running(engine)]
    for (line, earlier), during in zip(BEFORE.items(), DURING.values(), strict=True):
        windows = ((0, earlier, NOW - HOUR - DAY, NOW - HOUR), (1, during, NOW - HOUR, NOW))
        events = chain.from_iterable(
            requests([number], pairs, rows, since, until, line, Planted()) for number, rows, since, until in windows
        )
        while chunk := list(islice(events, CHUNK)):
            written += _write(engine, chunk, running)
        record_deployment(url, _deployment(line))
    engine.dispose()
    return written


def _write(engine: Any, chunk: list[tuple[Row, Row | None]], running: Sequence[Placed]) -> int:
    extra = {
        "model": "",
        "batch_size": 4,
        "status": 200,
        "prompt_tokens": 8,
        "messages": 1,
    }
    rows = [row | extra | _assigned(running, row) for row, _ in chunk]
    ends = [row | {"time": row["time"] + row["latency_s"]} for row in rows]
    reactions = [reaction for _, reaction in chunk if reaction]
    with engine.begin() as connection:
        for table, values in ((ACCEPTED, rows), (FINISHED, ends), (FEEDBACK, reactions)):
            # By the driver itself: SQLAlchemy's insert builds a dictionary for each row and takes most of the time.
            given = [column.name for column in table.c if column.name in values[0]]
            statement = str(insert(table).compile(engine, column_keys=given))
            connection.exec_driver_sql(statement, list(map(itemgetter(*given), values)))
    return len(rows) + len(ends) + len(reactions)


def _assigned(running: Sequence[Placed], row: Row) -> Row:
    """The window's requests are inside the project's experiments, so that their analysis is part of the cost."""
    given, _ = variant_of(inside(running, row["line"], row["user_key"], {}), row["user_key"])
    if given is None or row["time"] < NOW - HOUR:
        return {"experiment": "", "variant": "", "propensity": 1.0, "segments": "{}"}
    return vars(given) | {"segments": ('{"plan": "free"}', '{"plan": "paid"}')[int(row["user_key"][1:]) % 2]}


def _deployment(line: Line) -> Deployment:
    """A deployment of the package on this machine, so that its training data is the reference."""
    try:
        digest = read_manifest(ARTIFACTS / line / "package").digest
    except ArtifactError:
        digest = "0" * 64
    names = {"deployment": f"{line}-1", "model": f"atelier-{line}", "version": "1", "bento": ""}
    return Deployment(**names, line=line, digest=digest, time=NOW - HOUR - DAY)


def report_cost(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Seconds and peak memory (MiB) of one whole report in a fresh process, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        events = fill(_params(folder).events.url, pairs)
        process = multiprocessing.get_context("spawn").Process(target=_report, args=(folder,))
        began = time.perf_counter()
        with Load() as busy:
            process.start()
            process.join()
        seconds = time.perf_counter() - began
        if process.exitcode:
            raise StageError("the report failed: its message stands above")
        (page,) = Path(folder, "reports").glob("*/report.json")
        summary = json.loads(page.read_text())
        kept = sum(file.stat().st_size for file in Path(folder, "reports").rglob("*") if file.is_file())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the one process that has ended here
    against = {drift["name"]: drift["against"] for drift in summary["drift"]}
    cost = {
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
        "kept_mib": round(kept / 2**20, 1),
        "machine": busy.machine(),
    }
    return {"events": events, "requests_in_window": summary["requests"], **cost, "compared_with": against}


def _report(folder: str) -> None:
    write_report(_params(folder), NOW)


def _params(folder: str) -> Params:
    """The project's parameters with events and reports in `folder`."""
    params = load()
    monitor = params.monitor.model_copy(update={"report": f"{folder}/reports", "window_minutes": 60})
    events = params.events.model_copy(update={"url": f"sqlite:///{folder}/events.db"})
    return params.model_copy(update={"events": events, "monitor": monitor})


def windows(
    seed: int, halves: tuple[list[Phrase], list[Phrase]], planted: Planted, monitor: Monitor, embed: Embed | None
) -> Iterator[list[Drift]]:
    """The graded drifts of one window after another, of a deployment whose reference is drawn by `seed`."""
    known, unseen = halves[0], [(phrase.prompt, phrase.output) for phrase in halves[1]]
    texts = TrainingTexts([phrase.prompt for phrase in known], [phrase.group for phrase in known], "the training data")
    first = list(requests([seed, 0], unseen, REFERENCE, 0.0, DAY, "text", Planted()))
    references = texts_of(Served("text", "text-1", [], [r for r, _ in first], [], texts), embed)
    history: list[Past] = []
    gc.freeze()  # statsmodels collects garbage at each correction: keep it from searching what stays
    for number in count(1):
        since = DAY + number * HOUR
        now = list(requests([seed, number], unseen, ROWS, since, since + HOUR, "text", planted))
        reactions = sorted((r for _, r in (*first, *now) if r), key=lambda reaction: reaction["time"])
        variant_of = Served("text", "text-1", [r for r, _ in now], [r for r, _ in first], reactions, texts)
        found = compare(comparisons_of(variant_of, references, since, since + HOUR), monitor.min_rows)
        graded = grade(found, history, since, monitor.persistence)
        history.insert(0, Past(since, since + HOUR, tuple(graded)))
        yield graded


def halve(phrases: Sequence[Phrase], seed: int) -> tuple[list[Phrase], list[Phrase]]:
    """(training data of a deployment, phrases its users send): no group is in both."""
    names = sorted({phrase.group for phrase in phrases})
    known = set(np.random.default_rng(seed).permutation(names)[: len(names) // 2].tolist())
    return [p for p in phrases if p.group in known], [p for p in phrases if p.group not in known]


def false_alarms(phrases: Sequence[Phrase], monitor: Monitor, embed: Embed | None) -> dict[str, Any]:
    """How many windows without a drift were called "watch" or "act", and which columns did it."""
    severities: list[str] = []
    blamed: list[str] = []
    for seed in range(1000, 1000 + DEPLOYMENTS):
        for drifts in islice(windows(seed, halve(phrases, seed), Planted(), monitor, embed), QUIET):
            severities.append(worst(drifts))
            blamed += [f"{drift.name}: {test.column}" for drift in drifts for test in drift.moved]
    columns = {name: blamed.count(name) for name in sorted(set(blamed))}
    found: dict[str, Any] = {"windows": len(severities), "columns": columns}
    for name, alarms in (("watch", len(severities) - severities.count("none")), ("act", severities.count("act"))):
        upper = proportion_confint(alarms, len(severities), method="beta")[1]
        found[name] = {"alarms": alarms, "rate": alarms / len(severities), "rate_at_most_97_5": round(float(upper), 4)}
    return found


def delays(phrases: Sequence[Phrase], monitor: Monitor, embed: Embed | None) -> dict[str, Any]:
    """By planted drift: in how many windows "watch" and "act" came, the median and the worst of several repeats."""
    found: dict[str, Any] = {}
    for kind, planted in KINDS.items():
        watch, act = [], []
        for seed in range(2000, 2000 + REPEATS):
            said = windows(seed, halve(phrases, seed), planted, monitor, embed)
            severities = [worst(drifts) for drifts in _until_act(islice(said, LONGEST))]
            watch.append(next((i for i, s in enumerate(severities, 1) if s in ("watch", "act")), LONGEST + 1))
            act.append(len(severities) if severities[-1] == "act" else LONGEST + 1)
        found[kind] = {
            "repeats": REPEATS,
            "missed": sum(delay > LONGEST for delay in act),
            "windows_until_watch": float(np.median(watch)),
            "windows_until_act": float(np.median(act)),
            "worst_until_act": max(act),
        }
    return found


def _until_act(said: Iterator[list[Drift]]) -> Iterator[list[Drift]]:
    for drifts in said:
        yield drifts
        if worst(drifts) == "act":
            return


def cached(embed: Embed) -> Embed:
    """`embed` that remembers: the benchmark sends the same few thousand phrases again and again."""
    vectors: dict[str, Any] = {}

    def remember(texts: Sequence[str]) -> Any:
        new = list(dict.fromkeys(text for text in texts if text not in vectors))
        vectors.update(zip(new, embed(new), strict=True) if new else ())
        return np.stack([vectors[text] for text in texts])

    return remember


def show(result: dict[str, Any]) -> None:
    console, cost, alarms = Console(), result["report"], result["false_alarms"]
    table = Table(title="Drift report on SIMULATED events", show_header=False)
    table.add_row("events in SQLite / requests in the window", f"{cost['events']} / {cost['requests_in_window']}")
    table.add_row(
        "whole report: time, peak memory",
        f"{cost['seconds']} s ({cost['processor_seconds']} s of processor), {cost['peak_mib']} MiB",
    )
    for name in ("watch", "act"):
        table.add_row(
            f'false "{name}", of {alarms["windows"]} windows without drift',
            f"{alarms[name]['alarms']} ({100 * alarms[name]['rate']:.1f} %)",
        )
    console.print(table)
    delay = Table("planted", "until watch", "until act", "worst", "missed", title=f"Windows of {ROWS} requests until…")
    for kind, d in result["detection"].items():
        worst_case = str(d["worst_until_act"]) if not d["missed"] else f"> {LONGEST}"
        row = (
            f"{d['windows_until_watch']:g}",
            f"{d['windows_until_act']:g}",
            worst_case,
            f"{d['missed']}/{d['repeats']}",
        )
        delay.add_row(kind, *row)
    console.print(delay)


def main() -> None:
    """Run the benchmark on this machine's training phrases and write its figures."""
    params = load()
    known = [(prompt, group) for _, prompt, group in hashed_samples(TEXT_SPLIT / "train.parquet")]
    known = known[:: max(len(known) // PHRASES, 1)][:PHRASES]
    outputs = written([prompt for prompt, _ in known])
    phrases = [Phrase(prompt, output, group) for (prompt, group), output in zip(known, outputs, strict=True)]
    encoder = load_embed(IMAGE_PACKAGE)
    embed = cached(encoder) if encoder else None
    result: dict[str, Any] = {"simulated": True, "embeddings": encoder is not None, "rows_per_window": ROWS}
    result["report"] = report_cost([(phrase.prompt, phrase.output) for phrase in phrases])
    result["false_alarms"] = false_alarms(phrases, params.monitor, embed)
    result["detection"] = delays(phrases, params.monitor, embed)
    show(result)
    write_text(OUT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run(main)
