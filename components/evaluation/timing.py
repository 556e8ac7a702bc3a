"""How long calls take, so that engines can be compared in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter


def interleaved_medians(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds per call, each warmed up once; repeats take turns, so that a busy moment hits all alike."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = perf_counter()
            call()
            seconds[name].append(perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}
