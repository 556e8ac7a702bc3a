from __future__ import annotations

import pytest

from monitoring.traffic import by_line, timeline
from tests.monitoring.examples import counted, row, running


def test_errors_cancellations_and_unfinished_requests_are_told_apart() -> None:
    rows = [row(f"ok{i}", latency_s=i / 10) for i in range(1, 9)]
    rows += [row("e", outcome="error", status=503, latency_s=99.0), row("c", outcome="cancelled", status=499)]
    rows += [running("r"), row("i", line="image")]
    text, image = by_line(counted(rows), {"text": rows[:-1]}, until=100.2)
    assert (text.line, text.requests, text.ok, text.errors, text.cancelled, text.unfinished) == ("text", 11, 8, 1, 1, 1)
    assert text.error_rate == pytest.approx(0.1)
    assert text.statuses == {"503": 1}
    assert text.p50 == 0.5  # the failed request's 99 seconds are no latency of an answer
    assert text.mean_batch == 2
    assert (image.requests, image.sampled, image.p50) == (1, 0, None)


def test_a_line_that_only_failed_has_no_latency() -> None:
    rows = [row("e", outcome="error", status=500)]
    (line,) = by_line(counted(rows), {"text": rows}, until=200.0)
    assert (line.p50, line.p99, line.error_rate) == (None, None, 1.0)


def test_09_what_hangs_until_users_leave_or_for_ever_shows_in_the_percentiles() -> None:
    """A tenth of the requests hangs: half of their users leave after half a minute, half of the calls never end."""
    rows = [row(f"ok{i}") for i in range(90)]
    rows += [row(f"c{i}", outcome="cancelled", status=499, latency_s=30.0) for i in range(5)]
    rows += [running(f"r{i}") for i in range(5)]
    (line,) = by_line(counted(rows), {"text": rows}, until=190.0)
    assert (line.p50, line.p95, line.p99) == (0.5, 90.0, 90.0)  # nobody knows more than that they waited so long
    (good,) = by_line(counted(rows[:90]), {"text": rows[:90]}, until=190.0)
    assert (good.p50, good.p99) == (0.5, 0.5)


def test_the_timeline_holds_every_request_once_and_percentiles_of_the_sample() -> None:
    rows = [row(f"r{i}", time=7.3 * i, line="image" if i % 5 == 0 else "text") for i in range(100)]
    sampled = {"text": [r for r in rows if r["line"] == "text"][::2], "image": []}
    buckets = timeline(0.0, 30.0, counted(rows, 30.0), sampled, 800.0)
    assert sum(sum(bucket.requests.values()) for bucket in buckets) == 100
    assert len(buckets) == 25
    assert buckets[0].p50 == {"text": 0.5}
    assert timeline(0.0, 1.0, [], {}, 1.0) == []
