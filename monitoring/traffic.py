"""Traffic in numbers: counts, errors and latency percentiles per line, and the same over time.

Pure. Counts are those of `components.events.window.counts`, over all events; percentiles come from a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Row = dict[str, Any]
SLICES = 24


@dataclass(frozen=True)
class LineTraffic:
    """One line in the window; latencies in seconds until a good answer (None where there is none), in which requests
    that were given up or have not ended count as having waited so long at least.

    `sampled`: from how many of the requests the percentiles come.
    """

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
    sampled: int


@dataclass(frozen=True)
class Bucket:
    """One slice of time: requests and errors of each line, and its median and 95th percentile latency in seconds."""

    start: float
    requests: dict[str, int]
    errors: int
    p50: dict[str, float]
    p95: dict[str, float]


def by_line(counts: Sequence[Row], samples: Mapping[str, Sequence[Row]], until: float) -> list[LineTraffic]:
    """Each line's traffic from the database's counts; percentiles from its sample of requests, as of `until`."""
    return [
        line_traffic(line, [row for row in counts if row["line"] == line], samples.get(line, ()), until)
        for line in lines_of(counts)
    ]


def lines_of(counts: Iterable[Row]) -> list[str]:
    """Lines that saw traffic, text before image."""
    return sorted({str(row["line"]) for row in counts}, reverse=True)


def line_traffic(line: str, counts: Sequence[Row], sample: Sequence[Row], until: float) -> LineTraffic:
    """A request counts as an error if it ended so; one cancelled by its client or still running is neither."""
    outcomes, statuses = sum_by(counts, "outcome"), sum_by([r for r in counts if r["outcome"] == "error"], "status")
    total, batched = sum(outcomes.values()), sum(row["batched"] for row in counts)
    finished = total - outcomes[None]
    p50, p95, p99 = percentiles(sample, until)
    return LineTraffic(
        line=line,
        requests=total,
        ok=outcomes["ok"],
        errors=outcomes["error"],
        cancelled=outcomes["cancelled"],
        unfinished=outcomes[None],
        error_rate=outcomes["error"] / max(finished, 1),
        p50=p50,
        p95=p95,
        p99=p99,
        mean_batch=sum(row["batch_sum"] for row in counts) / batched if batched else None,
        completion_tokens=sum(row["completion_tokens"] for row in counts),
        statuses={str(status): count for status, count in sorted(statuses.items())},
        sampled=len(sample),
    )


def sum_by(counts: Iterable[Row], key: str) -> Counter[Any]:
    """Requests by what the column `key` says of them."""
    sums: Counter[Any] = Counter()
    for row in counts:
        sums[row[key]] += row["requests"]
    return sums


def percentiles(rows: Iterable[Row], until: float) -> tuple[float | None, float | None, float | None]:
    """50th, 95th and 99th percentile of the time (s) until a good answer, by Kaplan and Meier.

    A request that its client gave up, or that had not ended by `until`, has waited so long at least: to leave it out
    would make a line that hangs look fast. Where no answer came as late as a percentile, it is the longest wait.
    A latency of 0 is none that was measured: logs of other systems may name none.
    """
    mine = [row for row in rows if row["outcome"] != "error" and row["latency_s"] != 0]
    if not any(row["outcome"] == "ok" for row in mine):
        return None, None, None
    waits = [max(until - row["time"], 0.0) if row["latency_s"] is None else row["latency_s"] for row in mine]
    answered = stats.ecdf(stats.CensoredData.right_censored(waits, [row["outcome"] != "ok" for row in mine])).cdf
    reached = np.searchsorted(answered.probabilities, [0.5, 0.95, 0.99])
    p50, p95, p99 = np.append(answered.quantiles, max(waits))[reached]
    return float(p50), float(p95), float(p99)


def timeline(
    first: float, width: float, counts: Sequence[Row], samples: Mapping[str, Sequence[Row]], until: float
) -> list[Bucket]:
    """Slices of `width` seconds from `first` to the last request; none where there was no request."""
    slices = max((row["slice"] for row in counts), default=-1) + 1
    latencies: dict[tuple[int, str], list[Row]] = {}
    for line, rows in samples.items():
        for row in rows:
            latencies.setdefault((int((row["time"] - first) / width), line), []).append(row)
    return [
        _bucket(
            first + i * width,
            [row for row in counts if row["slice"] == i],
            {line: percentiles(latencies.get((i, line), ()), until) for line in samples},
        )
        for i in range(slices)
    ]


def _bucket(
    start: float, counts: Sequence[Row], latency: Mapping[str, tuple[float | None, float | None, float | None]]
) -> Bucket:
    return Bucket(
        start=start,
        requests=dict(sum_by(counts, "line")),
        errors=sum(row["requests"] for row in counts if row["outcome"] == "error"),
        p50={line: middle for line, (middle, _, _) in latency.items() if middle is not None},
        p95={line: high for line, (_, high, _) in latency.items() if high is not None},
    )
