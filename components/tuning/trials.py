"""What a hyper-parameter search leaves behind, as data: its trials, best first when asked, and their file.

Knows neither the search nor the training: plain JSON that the pipeline keeps as a metric and the registry logs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from components.artifact import canonical, write_text
from components.stage import StageError


class Trial(BaseModel):
    """One trial: what was tried, and its loss (smaller is better; None where the training failed, with its `error`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    number: int
    parameters: dict[str, int | float]
    status: Literal["ok", "failed"]
    loss: float | None
    error: str | None = None


class Search(BaseModel):
    """A whole search: which line and seed, and its trials in the order in which they were tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: str
    seed: int
    objective: str
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial with the smallest loss, the earlier of equal ones; raises `StageError` where all failed."""
        finished = [trial for trial in self.trials if trial.loss is not None]
        if not finished:
            errors = {trial.error or "no loss" for trial in self.trials}
            raise StageError(
                f"all {len(self.trials)} trials of the {self.line} line failed: {'; '.join(sorted(errors))}"
            )
        return min(finished, key=lambda trial: (trial.loss, trial.number))


def write_search(path: Path, search: Search) -> None:
    """Write the search as a metrics file, with its best trial on top."""
    best = search.best
    summary = {"best_loss": best.loss, "best_number": best.number, "best_parameters": best.parameters}
    write_text(path, canonical({**summary, **search.model_dump(mode="json")}) + "\n")


def read_search(path: Path) -> Search:
    """Read what `write_search` wrote; raises `StageError` naming the file where it is missing or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Search.model_validate({key: document[key] for key in Search.model_fields})
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise StageError(
            f"{path}: not the result of a search: {error}; run `python -m components.tuning.search`"
        ) from error
