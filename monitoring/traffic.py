"""Traffic in numbers: counts, errors and latency percentiles per line, and the same over time. Pure: rows in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]
BUCKETS = 24


@dataclass(frozen=True)
class LineTraffic:
    """One line in the window; latencies in seconds over requests that ended well (None where there is none)."""

    line: str
    requests: int
    ok: int
    errors: int
    cancelled: int
    unfinished: int
    error_rate: float
    p50: float | None
    p95: float | None
    p99: float | None
    mean_batch: float | None
    completion_tokens: int
    statuses: dict[str, int]


@dataclass(frozen=True)
class Bucket:
    """One slice of time: requests and errors of each line, and its median and 95th percentile latency in seconds."""

    start: float
    requests: dict[str, int]
    errors: int
    p50: dict[str, float]
    p95: dict[str, float]


def by_line(rows: Sequence[Row]) -> list[LineTraffic]:
    return [line_traffic(line, [row for row in rows if row["line"] == line]) for line in lines_of(rows)]


def lines_of(rows: Iterable[Row]) -> list[str]:
    """Lines that saw traffic, text before image."""
    return sorted({str(row["line"]) for row in rows}, reverse=True)


def line_traffic(line: str, rows: Sequence[Row]) -> LineTraffic:
    """A request counts as an error if it ended so; one cancelled by its client or still running is neither."""
    outcomes = [row["outcome"] for row in rows]
    finished = sum(outcome is not None for outcome in outcomes)
    batches = [row["batch_size"] for row in rows if row["batch_size"]]
    failures = [str(row["status"]) for row in rows if row["outcome"] == "error"]
    p50, p95, p99 = percentiles(rows)
    return LineTraffic(
        line=line,
        requests=len(rows),
        ok=outcomes.count("ok"),
        errors=outcomes.count("error"),
        cancelled=outcomes.count("cancelled"),
        unfinished=len(rows) - finished,
        error_rate=outcomes.count("error") / max(finished, 1),
        p50=p50,
        p95=p95,
        p99=p99,
        mean_batch=float(np.mean(batches)) if batches else None,
        completion_tokens=sum(row["completion_tokens"] or 0 for row in rows),
        statuses={status: failures.count(status) for status in sorted(set(failures))},
    )


def percentiles(rows: Iterable[Row]) -> tuple[float | None, float | None, float | None]:
    """50th, 95th and 99th percentile of latency (s) of requests that ended well."""
    latencies = [row["latency_s"] for row in rows if row["outcome"] == "ok"]
    if not latencies:
        return None, None, None
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    return float(p50), float(p95), float(p99)


def timeline(rows: Sequence[Row]) -> list[Bucket]:
    """Equal slices of time between the first and the last request; none where there was no request."""
    if not rows:
        return []
    first, last = rows[0]["time"], max(row["time"] for row in rows)
    width = max((last - first) / BUCKETS, 1.0)
    slices: list[list[Row]] = [[] for _ in range(int((last - first) / width) + 1)]
    for row in rows:
        slices[int((row["time"] - first) / width)].append(row)
    return [_bucket(first + i * width, part) for i, part in enumerate(slices)]


def _bucket(start: float, rows: Sequence[Row]) -> Bucket:
    p50: dict[str, float] = {}
    p95: dict[str, float] = {}
    for line in lines_of(rows):
        middle, high, _ = percentiles(row for row in rows if row["line"] == line)
        if middle is not None and high is not None:
            p50[line], p95[line] = middle, high
    counts = {line: sum(row["line"] == line for row in rows) for line in lines_of(rows)}
    return Bucket(start, counts, sum(row["outcome"] == "error" for row in rows), p50, p95)
