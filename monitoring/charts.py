"""Charts as inline SVG: no script, no network, readable in a mail client. Pure: numbers in, markup out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640.0, 180.0, 46.0, 24.0, 10.0
COLOURS = {"text": "var(--blue)", "image": "var(--orange)"}  # of style.css, as dark pages have others


def _svg(body: str, label: str, height: float = HEIGHT, width: float = WIDTH) -> Markup:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return Markup(head + f"<title>{escape(label)}</title>{body}</svg>")  # noqa: S704 - every text in it is escaped


def _text(x: float, y: float, words: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'


def ceiling(value: float) -> float:
    """The next round number (1, 2 or 5 times a power of ten) at or above a positive value."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return float(next(power * step for step in (1, 2, 5, 10) if power * step >= value * (1 - 1e-12)))


def _axes(starts: Sequence[float], top: float, unit: str) -> str:
    """Horizontal grid at halves of `top`, and the clock time of a few slices."""
    plot = HEIGHT - BOTTOM - TOP
    grid = ""
    for share in (0, 0.5, 1):
        y = TOP + plot * (1 - share)
        grid += f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        grid += _text(LEFT - 6, y + 4, f"{top * share:g}{unit}", "end")
    return grid + _clocks(starts)


def _clocks(times: Sequence[float]) -> str:
    """The clock of every so many slices; with the date where they span more than a day."""
    span = times[-1] - times[0] if times else 0.0
    form = "%m-%d %H:%M" if span > 86_400 else "%H:%M" if span > 600 else "%H:%M:%S"
    return "".join(
        _text(_x(i, len(times)), HEIGHT - 6, time.strftime(form, time.gmtime(times[i])))
        for i in range(0, len(times), max(len(times) // 5, 1))
    )


def _x(index: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT) * (index + 0.5) / count


def stacked_bars(starts: Sequence[float], series: Mapping[str, Sequence[float]], label: str) -> Markup:
    """Bars over time, one colour per series, stacked."""
    totals = [sum(values[i] for values in series.values()) for i in range(len(starts))]
    top = ceiling(max([*totals, 1.0]))
    plot, width = HEIGHT - BOTTOM - TOP, max((WIDTH - LEFT) / max(len(starts), 1) - 2, 1)
    parts = [_axes(starts, top, "")]
    below = [0.0] * len(starts)
    for name, values in series.items():
        for i, value in enumerate(values):
            height = plot * value / top
            y = TOP + plot - below[i] - height
            x = _x(i, len(starts)) - width / 2
            if value:
                shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{_colour(name)}"'
                parts.append(f"<rect {shape}><title>{escape(name)}: {value:g}</title></rect>")
            below[i] += height
    return _svg("".join(parts), label)


def lines(starts: Sequence[float], series: Mapping[str, Sequence[float | None]], unit: str, label: str) -> Markup:
    """Lines over time; a series named `<line> p50` is drawn dashed, a missing value is left out."""
    known = [value for values in series.values() for value in values if value is not None]
    top = ceiling(max([*known, 1e-3]))
    parts = [_axes(starts, top, unit)]
    plot = HEIGHT - BOTTOM - TOP
    for name, values in series.items():
        points = [(_x(i, len(starts)), TOP + plot * (1 - v / top)) for i, v in enumerate(values) if v is not None]
        dash = ' stroke-dasharray="3 3"' if name.endswith("p50") else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_colour(name)}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{_colour(name)}"/>' for x, y in points]
    return _svg("".join(parts), label)


def histogram(edges: Sequence[float], counts: Sequence[int], bound: float | None, label: str) -> Markup:
    """Bars of one width from each edge to the next; a dashed line before the first bar that begins beyond `bound`."""
    top, plot, width = ceiling(max([*counts, 1])), HEIGHT - BOTTOM - TOP, (WIDTH - LEFT) / len(counts)
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{TOP + plot:.1f}" y2="{TOP + plot:.1f}"/>',
        _text(LEFT - 6, TOP + 4, f"{top:g}", "end"),
    ]
    for i, count in enumerate(counts):
        height, x = plot * count / top, LEFT + width * i
        shape = f'x="{x + 1:.1f}" y="{TOP + plot - height:.1f}" width="{width - 2:.1f}" height="{height:.1f}"'
        note = f"{edges[i]:,.0f} to {edges[i + 1]:,.0f}: {count:,}"
        parts.append(f'<rect {shape} fill="var(--blue)"><title>{note}</title></rect>')
        if i % max(len(counts) // 6, 1) == 0:
            parts.append(_text(x, HEIGHT - 6, f"{edges[i]:,.0f}", "start"))
    if bound is not None and bound < edges[-1] - 1:
        x = LEFT + width * sum(edge <= bound for edge in edges[1:])
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TOP + plot:.1f}"/>')
        parts.append(_text(x + 4, TOP + 10, f"{bound:,.0f}", "start"))
    return _svg("".join(parts), label)


def trend(
    starts: Sequence[float], values: Sequence[float | None], marked: Sequence[bool], limit: float, label: str
) -> Markup:
    """A small chart of one value per run; runs are evenly spaced, gaps are runs without a value, `limit` is dashed."""
    width, height, left, plot = 300.0, 64.0, 34.0, 44.0
    top = ceiling(max([value for value in values if value is not None] + [2 * limit]))

    def y(value: float) -> float:
        return 8 + plot * (1 - value / top)

    step = (width - left - 6) / max(len(values), 1)
    points = [
        (left + step * (i + 0.5), value, marked[i], starts[i]) for i, value in enumerate(values) if value is not None
    ]
    parts = [
        f'<line class="grid" x1="{left}" x2="{width}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>',
        f'<line class="limit" x1="{left}" x2="{width}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>',
        _text(left - 5, y(top) + 6, f"{top:g}", "end"),
        _text(left - 5, y(0) + 2, "0", "end"),
    ]
    for (x, value, *_), (next_x, next_value, *_) in pairwise(points):
        if next_x - x < 1.5 * step:  # no line across a gap
            ends = f'x1="{x:.1f}" y1="{y(value):.1f}" x2="{next_x:.1f}" y2="{y(next_value):.1f}"'
            parts.append(f'<line {ends} stroke="var(--soft)" opacity=".6" stroke-width="1.5"/>')
    for x, value, hot, start in points:
        note = f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(start))}: {value:.2f}{', moved' if hot else ''}"
        dot = (
            f'cx="{x:.1f}" cy="{y(value):.1f}" r="{3.4 if hot else 2}" fill="{"var(--act)" if hot else "var(--fine)"}"'
        )
        parts.append(f"<circle {dot}><title>{note}</title></circle>")
    return _svg("".join(parts), label, height, width)


def interval(low: float, high: float, estimate: float, left: str, right: str) -> Markup:
    """A confidence interval of a difference around 0, in percentage points; `left` and `right` name who would win."""
    reach = max(ceiling(max(abs(low), abs(high), 0.01)), 0.01)
    height, middle = 96.0, 46.0

    def x(value: float) -> float:
        return 20 + (WIDTH - 40) * (value + reach) / (2 * reach)

    certain = low > 0 or high < 0
    colour = "var(--fine)" if certain else "var(--soft)"
    parts = [
        f'<line class="grid" x1="20" x2="{WIDTH - 20}" y1="{middle}" y2="{middle}"/>',
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="22" y2="70" class="zero"/>',
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle}" y2="{middle}" stroke="{colour}" stroke-width="10" '
        'stroke-linecap="round" opacity=".45"/>',
        f'<circle cx="{x(estimate):.1f}" cy="{middle}" r="7" fill="{colour}"/>',
        _text(x(0), 86, "no difference"),
        _text(20, 86, f"← {left}", "start"),
        _text(WIDTH - 20, 86, f"{right} →", "end"),
    ]
    anchors = ("end", "start") if high - low < reach / 4 else ("middle", "middle")
    ends = zip((low, high), anchors, strict=True)
    parts += [_text(x(value), 34, f"{100 * value:+.1f}", anchor) for value, anchor in ends]
    return _svg("".join(parts), f"difference {estimate:+.3f}, interval {low:+.3f} to {high:+.3f}", height)


def intervals(times: Sequence[float], looks: Sequence[tuple[float, float, float]], low: str, high: str) -> Markup:
    """(estimate, lower, upper bound) of a difference at each look, in percentage points; who wins below and above 0.

    The newest interval sets the scale: early ones are wide and run out of the picture.
    """
    reach = 1.5 * max([abs(bound) for look in looks[-1:] for bound in look] + [0.01])
    plot = HEIGHT - BOTTOM - TOP

    def y(value: float) -> float:
        return TOP + plot * (1 - min(max(value / reach, -1), 1)) / 2

    parts = [
        *(_text(LEFT - 6, y(value) + 4, f"{100 * value:+.0f}", "end") for value in (-reach, reach)),
        _text(LEFT - 6, y(0) + 4, "0", "end"),
        _clocks(times),
        # On the right, as the newest never reaches so far.
        _text(WIDTH, TOP + 8, f"↑ {high} better", "end"),
        _text(WIDTH, TOP + plot - 2, f"↓ {low} better", "end"),
        f'<line class="zero" x1="{LEFT}" x2="{WIDTH}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>',
    ]
    for i, (estimate, lower, upper) in enumerate(looks):
        x, colour = _x(i, len(looks)), "var(--fine)" if lower > 0 or upper < 0 else "var(--soft)"
        clock = time.strftime("%Y-%m-%d %H:%M", time.gmtime(times[i]))
        note = f"{clock}: {100 * estimate:+.1f}, interval {100 * lower:+.1f} to {100 * upper:+.1f}"
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{y(upper):.1f}" y2="{y(lower):.1f}"'
        parts += [
            f'<line {ends} stroke="{colour}" stroke-width="8" opacity=".45"><title>{note}</title></line>',
            f'<circle cx="{x:.1f}" cy="{y(estimate):.1f}" r="4" fill="{colour}"><title>{note}</title></circle>',
        ]
    return _svg("".join(parts), "difference in likes over time")


def _colour(name: str) -> str:
    return next((colour for key, colour in COLOURS.items() if name.startswith(key)), "var(--soft)")
