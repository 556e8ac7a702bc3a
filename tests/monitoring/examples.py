"""Rows of requests, their counts and feedback for tests, as the events' reader gives them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any


def row(identifier: str, **changes: Any) -> dict[str, Any]:
    """A text request that took half a second and ended well; `changes` replaces any of its columns."""
    return {
        "request_id": identifier,
        "time": 100.0,
        "user_key": "u",
        "line": "text",
        "deployment": "text-1",
        "model": "atelier-text",
        "experiment": "colours",
        "variant": "control",
        "propensity": 0.5,
        "latency_s": 0.5,
        "outcome": "ok",
        "status": 200,
        "batch_size": 2,
        "prompt": "a fox",
        "output": "fox: animal",
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "cut": False,
    } | changes


def running(identifier: str, **changes: Any) -> dict[str, Any]:
    """A request that has not ended."""
    unknown = dict.fromkeys(("latency_s", "outcome", "status", "batch_size", "prompt", "output"))
    return row(identifier, **unknown, prompt_tokens=None, completion_tokens=None) | changes


def counted(rows: Sequence[dict[str, Any]], width: float = 1e9) -> list[dict[str, Any]]:
    """What the database would count of `rows`, in slices of `width` seconds from time 0."""
    groups = defaultdict(list)
    for r in rows:
        groups[r["line"], r["deployment"], int(r["time"] / width), r["outcome"], r["status"]].append(r)
    return [
        dict(zip(("line", "deployment", "slice", "outcome", "status"), key, strict=True))
        | {
            "requests": len(group),
            "batched": sum(bool(r["batch_size"]) for r in group),
            "batch_sum": sum(r["batch_size"] or 0 for r in group),
            "completion_tokens": sum(r["completion_tokens"] or 0 for r in group),
            "backwards": 0,
        }
        for key, group in groups.items()
    ]


def like(identifier: str, value: float = 1.0, *, user: str = "u", at: float = 200.0) -> dict[str, Any]:
    return {"key": f"{identifier}-{at}", "request_id": identifier, "time": at, "received": at, "user_key": user} | {
        "kind": "like",
        "value": value,
    }
