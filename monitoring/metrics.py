"""Prometheus metrics of the serving path; each Bento's `/metrics` exposes those its process touches.

Every label has few values: lines, outcomes, variants of the running experiments, deployments on trial; never a user, a
prompt or a request's id.
Gauges say how they add up over worker processes (BentoML runs Prometheus' multi-process mode).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from components.config import Line

# Seconds: 10 ms pictures of a small model up to the request timeout.
LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, float("inf"))
# From when on an answer is late, by line: the objective in infra/prometheus/recording.yml. Buckets of LATENCY.
LATE: dict[Line, float] = {"text": 2.5, "image": 5.0}
BATCH = (1, 2, 4, 8, 16, 32, 64, float("inf"))

REQUESTS = Counter(
    "atelier_requests",
    "Answered requests by line, HTTP status, outcome, experiment and variant",
    ["line", "status", "outcome", "experiment", "variant"],
)
REFUSED = Counter(
    "atelier_refused",
    "Requests refused before they were on record, by line (empty: neither), HTTP status and OpenAI error code",
    ["line", "status", "code"],
)
SECONDS = Histogram(
    "atelier_request_seconds",
    "Time from acceptance to the end of a good answer, or until a client gave up that was late",
    ["line"],
    buckets=LATENCY,
)
FIRST_TOKEN_SECONDS = Histogram(
    "atelier_first_token_seconds", "Time from acceptance to the first piece of a stream", ["line"], buckets=LATENCY
)
BATCH_SIZE = Histogram("atelier_batch_size", "Requests that a model worked on together", ["line"], buckets=BATCH)
TOKENS = Counter("atelier_tokens", "Tokens read (prompt) and written (completion)", ["kind"])
IMAGES = Counter("atelier_images", "Pictures delivered")
FEEDBACK = Counter("atelier_feedback", "Stored reactions of users")
CANDIDATE = Counter(
    "atelier_candidate_calls",
    "Calls to candidates by deployment, whom for (user, shadow) and why they failed, empty where they did not",
    ["deployment", "whom", "reason"],
)
CANDIDATE_SECONDS = Histogram(
    "atelier_candidate_seconds", "Time a candidate took for a call", ["deployment"], buckets=LATENCY
)
RETRIES = Counter("atelier_retries", "Calls to a champion that were made a second time", ["line"])
SHADOWS_DROPPED = Counter("atelier_shadows_dropped", "Copies of requests that found no place")
BREAKERS_OPENED = Counter("atelier_breakers_opened", "Candidates that were cut off, and why", ["deployment", "reason"])
RECHECKED = Gauge(
    "atelier_rechecked",
    "Answers that PyTorch has computed again within a day, by verdict: same, fault, unknown",
    ["line", "verdict"],
    multiprocess_mode="livemax",
)
RECHECK_ERROR = Gauge(
    "atelier_recheck_error",
    "Error of a week's answers of the worst deployment, as a multiple of what rounding costs; 0 where they are too few",
    ["line"],
    multiprocess_mode="livemax",
)
EVENT_FAILURES = Counter("atelier_event_failures", "Events that could not be stored or looked up")
QUEUE_DEPTH = Gauge("atelier_queue_depth", "Requests waiting for admission", ["line"], multiprocess_mode="livesum")
IN_WORK = Gauge("atelier_in_work", "Requests admitted and not yet answered", ["line"], multiprocess_mode="livesum")
QUEUE_LIMIT = Gauge("atelier_queue_limit", "Requests that may wait", ["line"], multiprocess_mode="livesum")


def start_at_zero(variants: Mapping[str, Iterable[tuple[str, str]]]) -> None:
    """Export what alerts count, for each line's variants (of which experiment), before it happens: `rate` sees no
    series' first value."""
    for line, names in variants.items():
        for experiment, variant in names:
            REQUESTS.labels(line, "200", "ok", experiment, variant)
            REQUESTS.labels(line, "500", "error", experiment, variant)
        REFUSED.labels(line, "503", "model_unavailable")
        SECONDS.labels(line)
