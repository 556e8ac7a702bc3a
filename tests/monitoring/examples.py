"""Rows of requests and feedback for tests, as the events' reader gives them."""

from __future__ import annotations

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
        "finished": 100.5,
        "latency_s": 0.5,
        "outcome": "ok",
        "status": 200,
        "batch_size": 2,
        "prompt": "a fox",
        "output": "fox: animal",
        "prompt_tokens": 3,
        "completion_tokens": 4,
    } | changes


def running(identifier: str, **changes: Any) -> dict[str, Any]:
    """A request that has not ended."""
    unknown = dict.fromkeys(("finished", "latency_s", "outcome", "status", "batch_size", "prompt", "output"))
    return row(identifier, **unknown, prompt_tokens=None, completion_tokens=None) | changes


def like(identifier: str, value: float = 1.0, *, user: str = "u", at: float = 200.0) -> dict[str, Any]:
    return {"key": f"{identifier}-{at}", "request_id": identifier, "time": at, "user_key": user} | {
        "kind": "like",
        "value": value,
    }
