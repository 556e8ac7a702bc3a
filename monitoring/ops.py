"""The ops page: what a person on call opens first. One self-contained HTML page, written anew each minute."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from components.config import Params
from monitoring import charts, history, page
from monitoring.concerns import concerns, verdict
from monitoring.situation import Situation, gather

RUNBOOKS = Path(__file__).resolve().parents[1] / "docs" / "runbooks"
WINDOWS = 12  # of drift; an experiment's looks are twice as many
MOVES = 6  # of each line


def write_ops(params: Params, urls: Mapping[str, str], now: float) -> Path:
    """Write `<monitor.report>/ops.html` of what is known at `now` (epoch s); returns it.

    `urls` are the addresses at which each service says that it is ready. Written whatever is down; takes about as long
    as the slowest answer, which is waited for 2 s.
    """
    reports = Path(params.monitor.report)
    return page.write(reports / "ops.html", lambda: render(gather(params, urls, now), reports))


def render(situation: Situation, reports: Path) -> str:
    """The page for the folder `reports`, which its links start from."""
    concerns_now = concerns(situation)
    return page.render(
        "ops.html",
        s=situation,
        concerns=concerns_now,
        verdict=verdict(concerns_now),
        experiments=experiments(situation.runs[: 2 * WINDOWS][::-1]),
        intervals=intervals,
        strips=history.strips(situation.runs[:WINDOWS][::-1]),
        windows=WINDOWS,
        moves=MOVES,
        runbooks={path.stem: os.path.relpath(path, reports) for path in RUNBOOKS.glob("*.md")},
    )


def experiments(runs: Sequence[history.Run]) -> list[list[tuple[history.Run, history.Look]]]:
    """The looks at each experiment of the newest run, each with its run, from old to new."""
    names = [look.name for look in runs[-1].looks] if runs else []
    return [[(run, look) for run in runs for look in run.looks if look.name == name] for name in names]


def intervals(looks: Sequence[tuple[history.Run, history.Look]]) -> Markup:
    """An experiment's interval at each look, from old to new."""
    times = [run.past.until for run, _ in looks]
    newest = looks[-1][1]
    bounds = [(look.difference, *look.interval) for _, look in looks]
    return charts.intervals(times, bounds, newest.control, newest.treatment)
