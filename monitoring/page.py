"""What every page shares: the templates with their style, and how times, shares and durations are written.

Everything from outside (prompts, names, reasons) is escaped by the template engine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import escape

from components.artifact import write_text
from monitoring.drift import named

TEMPLATES = Path(__file__).parent / "templates"
FAILED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>This page failed</title>
<h1>This page could not be drawn</h1><p>{time}: {error}</p>
<p>What it is about goes on; <code>atelier status</code> says what runs. Please report this as a fault.</p></html>
"""


def render(template: str, **things: Any) -> str:
    """The page; a name that the template uses and nobody gave is an error."""
    return templates().get_template(template).render(**things)


@lru_cache
def templates() -> Environment:
    """The pages' templates, compiled once in a process that writes a page each minute."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    filters = (clock, duration, minute, money, named, percent, seconds)
    environment.filters |= {function.__name__: function for function in filters}
    return environment


def write(path: Path, draw: Callable[[], str]) -> Path:
    """Write the page that `draw` returns; returns its path. A page that fails is logged and says so in its own place:
    flows and servers go on, whatever is wrong with a page."""
    try:
        text = draw()
    except Exception as error:
        logging.getLogger(__name__).exception("%s could not be drawn", path)
        text = FAILED.format(time=clock(time.time()), error=escape(f"{type(error).__name__}: {error}"))
    try:
        write_text(path, text)
    except OSError:
        logging.getLogger(__name__).exception("%s could not be written", path)
    return path


def clock(epoch: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch)) if epoch is not None else "–"


def minute(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(epoch))


def seconds(value: float | None) -> str:
    """Milliseconds below one second, seconds above."""
    if value is None:
        return "–"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def money(value: float | None, currency: str) -> str:
    """Three significant digits."""
    return "–" if value is None else f"{value:.3g} {currency}"


def duration(value: float) -> str:
    """Whole units of the largest kind of which there are two at least: 40 s, 12 min, 3 h, 5 d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value // size:.0f} {unit}"
    return f"{max(value, 0):.0f} s"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"
