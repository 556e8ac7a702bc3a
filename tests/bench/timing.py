"""How long calls take, so that engines can be compared in one run, and how busy the machine was meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, sleep

import psutil
from scipy.stats import binom

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of paired rounds; `low` and `high` bound the median of such rounds on this machine at 95 %,
    from the ratios' ranks, whatever their distribution.
    """

    ratio: float
    low: float
    high: float


def interleaved_seconds(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, each warmed up once; all take turns, so that a busy moment hits all alike."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in sorted(calls, reverse=bool(number % 2)):  # who comes second finds a warmer machine
            start = perf_counter()
            calls[name]()
            seconds[name].append(perf_counter() - start)
    return seconds


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """How many times as long `slow` takes as `fast`, from rounds that were timed in turn; raises `ValueError` where
    there are too few for an interval.
    """
    ratios = sorted(one / other for one, other in zip(slow, fast, strict=True))
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, len(ratios), 0.5))  # so many lie outside on either side
    if rank < 1:
        raise ValueError(f"{len(ratios)} rounds are too few for an interval at {CONFIDENCE:.0%}; six are the fewest")
    return Ratio(median(ratios), ratios[rank - 1], ratios[-rank])


class Load:
    """Cores that other processes kept busy while it was entered, on average; children of this one count as its own."""

    def __enter__(self) -> Load:
        self._start = self._now()
        return self

    def __exit__(self, *error: object) -> None:
        wall, busy, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        self.others = max(0.0, busy - own) / wall

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times, own = psutil.cpu_times(), os.times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        return perf_counter(), busy, own.user + own.system + own.children_user + own.children_system

    def machine(self) -> dict[str, float | int | None]:
        """What a reader has to know of the machine beside its figures."""
        return {"cores": os.cpu_count(), "cores_busy_with_other_work": round(self.others, 2)}


def before_work() -> dict[str, float | int | None]:
    """The machine in three seconds before several processes work, whose own load `Load` would count as others'."""
    with Load() as load:
        sleep(3.0)
    return {"cores": os.cpu_count(), "cores_busy_before": round(load.others, 2)}
