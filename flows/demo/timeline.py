"""The timeline of an unattended run: what happened when, what was expected, and the figures; as JSON and HTML."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.artifact import write_text
from monitoring.page import render, write


@dataclass(frozen=True)
class Step:
    """Something that happened at `time` (epoch seconds); `expected` is what should hold, `held` whether it did."""

    time: float
    title: str
    words: str
    figures: dict[str, Any]
    expected: str = ""
    held: bool | None = None


@dataclass
class Timeline:
    """Steps in the order of time; every addition rewrites the page, so that a run that was cut short leaves one."""

    title: str
    banner: str
    page: Path
    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        title: str,
        words: str,
        figures: Mapping[str, Any] | None = None,
        *,
        expected: str = "",
        held: bool | None = None,
        at: float | None = None,
    ) -> None:
        step = Step(time.time() if at is None else at, title, words, dict(figures or {}), expected, held)
        self.steps = sorted([*self.steps, step], key=lambda step: step.time)
        write(self.page, self._page)
        write_text(self.page.with_suffix(".json"), json.dumps([asdict(step) for step in self.steps], indent=1))

    @property
    def broken(self) -> list[Step]:
        """Steps whose expectation did not hold."""
        return [step for step in self.steps if step.held is False]

    def _page(self) -> str:
        return render("timeline.html", t=self, since=lambda epoch: _elapsed(epoch - self.steps[0].time))


def _elapsed(seconds: float) -> str:
    return f"+{int(seconds) // 60}:{int(seconds) % 60:02}"
