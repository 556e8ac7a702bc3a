from __future__ import annotations

import pytest

from monitoring.traffic import by_line, timeline
from tests.monitoring.examples import counted, row, running


def test_errors_cancellations_and_unfinished_requests_are_told_apart() -> None:
    rows = [row(f"ok{i}", latency_s=i / 10) for i in range(1, 9)]
    rows += [row("e", outcome="error", status=503, latency_s=99.0), row("c", outcome="cancelled", status=499)]
    rows += [running("r"), row("i", line="image")]
    text, image = by_line(counted(rows), {"text": rows[:-1]})
    assert (text.line, text.requests, text.ok, text.errors, text.cancelled, text.unfinished) == ("text", 11, 8, 1, 1, 1)
    assert text.error_rate == pytest.approx(0.1)
    assert text.statuses == {"503": 1}
    assert text.p50 == pytest.approx(0.45)  # the failed request's 99 seconds are no latency of an answer
    assert text.mean_batch == 2
    assert (image.requests, image.sampled, image.p50) == (1, 0, None)


def test_a_line_that_only_failed_has_no_latency() -> None:
    rows = [row("e", outcome="error", status=500)]
    (line,) = by_line(counted(rows), {"text": rows})
    assert (line.p50, line.p99, line.error_rate) == (None, None, 1.0)


def test_the_timeline_holds_every_request_once_and_percentiles_of_the_sample() -> None:
    rows = [row(f"r{i}", time=7.3 * i, line="image" if i % 5 == 0 else "text") for i in range(100)]
    sampled = {"text": [r for r in rows if r["line"] == "text"][::2], "image": []}
    buckets = timeline(0.0, 30.0, counted(rows, 30.0), sampled)
    assert sum(sum(bucket.requests.values()) for bucket in buckets) == 100
    assert len(buckets) == 25
    assert buckets[0].p50 == {"text": 0.5}
    assert timeline(0.0, 1.0, [], {}) == []
