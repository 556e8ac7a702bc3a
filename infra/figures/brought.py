"""Rows of the page about models that somebody brings: what each family goes through, and how good the planner is."""

from __future__ import annotations

from collections.abc import Callable

from infra.figures.row import Document, Row, bench, percent
from tests.bench.families import LINES


def planned(d: Document) -> str:
    """The planner's memory as a share of each measure's, least and most."""

    def ratios(measure: str) -> str:
        found = sorted(row["planned"] / row[measure] for row in d["runs"])
        return f"{found[0]:.2f} to {found[-1]:.2f}"

    kept = max(row["resident_by_default"] / row["planned"] for row in d["runs"])
    return (
        f"{len(d['runs'])} runs: {ratios('in_use')} of PyTorch's bytes in use, {ratios('resident')} of resident memory "
        f"where freed blocks go back to the system; as glibc keeps them the process had up to {kept:.2f} × the plan"
    )


def reached(d: Document) -> str:
    """What share of a matrix product's speed training steps came to."""
    shares = sorted(row["reached"] for row in d["runs"])
    return f"{percent(shares[0])} to {percent(shares[-1])}"


def family(line: str, name: str) -> Callable[[Document], str]:
    """A family's steps, each with its figure or why it is unproven."""

    def figure(d: Document) -> str:
        row = d.get(line, {}).get(name)
        steps = LINES[line].steps
        said = (f"{step}: {row[step].get('figure') or 'unproven: ' + row[step]['unproven']}" for step in steps if row)
        return "; ".join(said).replace("|", "/")

    return figure


ROWS = [
    Row("planner.json", "planner: memory of training, of what was measured", planned, bench("models")),
    Row("planner.json", "training step: share of the probe's FLOP/s", reached, bench("models")),
    *(
        Row("families.json", f"{line}: {name}", family(line, name), bench("families"))
        for line, table in LINES.items()
        for name in table.families
    ),
]
